#!/usr/bin/env bash
# Runs all tests three times on a busy machine. Every core runs an endless loop, and the tests have a lower priority, so they get a
# quarter to a half of the machine. A test that assumes a speed or an order is likely to fail.
#
# The programs have to be built (make test-stress does that). Set ROUNDS=N to run them N times. The options are those of
# run-tests: stress-tests.sh --package outbox.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
run_tests=${CARGO_TARGET_DIR:-target}/debug/run-tests

loops=()
tests=
end_all() {
    [ -z "$tests" ] || kill "$tests" 2>/dev/null || true
    kill "${loops[@]}" 2>/dev/null || true
    wait
}
trap end_all EXIT
trap 'exit 1' HUP INT TERM

for _ in $(seq "$(nproc)"); do
    # Not longer than this script, however it ends.
    (while kill -0 $$ 2>/dev/null; do :; done) &
    loops+=($!)
done
failed=0
for round in $(seq "${ROUNDS:-3}"); do
    echo "stress-tests: round $round" >&2
    nice -n 5 "$run_tests" "$@" &
    tests=$!
    # Waited for in the background, so that a signal is heard at once.
    wait "$tests" || failed=$((failed + 1))
    tests=
done
echo "stress-tests: $failed of ${ROUNDS:-3} rounds failed" >&2
[ "$failed" -eq 0 ]
