#!/usr/bin/env bash
# Tests the load test's experiment tracking against a real MLflow server. Starts one with a new SQLite database and runs the
# tests that log to it and read the result back (load-test/tests/tracking).
#
# Needs Python's venv. Installs MLflow into .tools/check-tracking, about 350 MB.
# Usage: check-tracking.sh [MORE OPTIONS OF cargo test]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/pypi-tools.sh

venv=.tools/check-tracking
# The first start creates the database, which takes seconds on an idle machine.
start_limit_s=180

pypi_install scripts/check-tracking.txt "$venv"
"${CARGO:-cargo}" test --quiet --locked -p load-test --test tracking --no-run

work=$(mktemp -d)
server=
end() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap end EXIT

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
bin=$(realpath "$venv")/bin
(cd "$work" && exec env -i PATH="$bin:$PATH" HOME="$work" MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    "$bin/mlflow" server --host 127.0.0.1 --port "$port" --workers 1 \
    --backend-store-uri sqlite:///mlflow.db --artifacts-destination ./artifacts >"$work/log" 2>&1) &
server=$!
is_up() {
    python3 -c "import urllib.request; urllib.request.urlopen('$url/health', timeout=5)" 2>/dev/null
}
until is_up; do
    if ! kill -0 "$server" 2>/dev/null || [ "$SECONDS" -gt "$start_limit_s" ]; then
        cat "$work/log" >&2
        echo "check-tracking: MLflow's server did not start" >&2
        exit 1
    fi
    sleep 0.2
done

MLFLOW_TRACKING_URI=$url "${CARGO:-cargo}" test --quiet --locked -p load-test --test tracking "$@" -- --include-ignored
