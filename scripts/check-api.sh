#!/usr/bin/env bash
# Holds the running service against its own OpenAPI document: starts the embedded service and has schemathesis send
# it what the document allows and what it does not, one by one and in chains. No answer may be a 5xx, have a status or
# a form that is not documented, or accept what the document forbids. The seed is fixed (scripts/check-api.toml).
#
# Needs Python's venv. Usage: check-api.sh [MORE OPTIONS OF schemathesis run]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/pypi-tools.sh

examples=150
venv=.tools/check-api
export API_KEY=a-key-for-one-run-of-check-api

pypi_install scripts/check-api.txt "$venv"
# As make test-programs does, so that nothing is compiled twice.
"${CARGO:-cargo}" build --quiet --locked --workspace --bins --tests
program=${CARGO_TARGET_DIR:-target}/debug/llm-bench

work=$(mktemp -d)
service=
end() {
    [ -z "$service" ] || kill "$service" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap end EXIT

# Away from a .env file of this folder, and without this shell's settings.
program=$(realpath "$program")
(cd "$work" && exec env -i PATH="$PATH" API_KEY="$API_KEY" ANONYMOUS_READ=false NUM_DATA_POINTS=10 RUST_LOG=warn \
    "$program" up --ephemeral --port 0 >"$work/out" 2>"$work/err") &
service=$!
url=
for _ in $(seq 300); do
    url=$(sed -n 's/^ *dashboard *//p' "$work/out" 2>/dev/null || true)
    [ -z "$url" ] || break
    kill -0 "$service" 2>/dev/null || break
    sleep 0.1
done
if [ -z "$url" ]; then
    cat "$work/err" >&2
    echo "check-api: the service did not start" >&2
    exit 1
fi

"$venv/bin/schemathesis" --config-file scripts/check-api.toml run --max-examples "$examples" "$@" "${url%/}/openapi.json"
kill -0 "$service" || { echo "check-api: the service ended" >&2; exit 1; }
