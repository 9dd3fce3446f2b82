#!/usr/bin/env bash
# Runs all tests three times on a busy machine: every core has a loop that never ends, and the tests run at a lower
# priority, so that they get a quarter to a half of the machine. What assumes a speed or an order fails here.
#
# The programs have to be built (make test-stress does that). ROUNDS=N for another number; the options are those of
# run-tests: stress-tests.sh --package outbox.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
run_tests=${CARGO_TARGET_DIR:-target}/debug/run-tests

loops=()
end_loops() {
    kill "${loops[@]}" 2>/dev/null || true
}
trap end_loops EXIT
trap 'exit 1' HUP INT TERM

for _ in $(seq "$(nproc)"); do
    (while :; do :; done) &
    loops+=($!)
done
for round in $(seq "${ROUNDS:-3}"); do
    echo "stress-tests: round $round" >&2
    nice -n 5 "$run_tests" "$@"
done
