#!/usr/bin/env bash
# Tests the running service against its own OpenAPI document. Starts the embedded service and lets schemathesis send valid and
# invalid requests, one by one and in sequences. No answer may be a 5xx, have an undocumented status or form, or accept an
# invalid request. The seed is fixed (scripts/check-api.toml).
#
# Needs Python's venv. Usage: check-api.sh [MORE OPTIONS OF schemathesis run]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/pypi-tools.sh

examples=150
venv=.tools/check-api
export API_KEY=a-key-for-one-run-of-check-api

pypi_install scripts/check-api.txt "$venv"
# The same build as make test-programs, so that nothing is compiled twice.
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

# In another directory and with an empty environment, so that neither .env nor this shell's settings apply.
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
