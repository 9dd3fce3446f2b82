#!/usr/bin/env bash
# A load test of a real engine: llama.cpp's own HTTP server on this machine's CPU, with a tiny model with random weights
# that this script creates (scripts/real-engine/model.py). Sends requests with and without streaming, by OpenAI's and Anthropic's
# API, and compares every request with the server's own figures (scripts/real-engine/agree.py): all are answered, the numbers of
# tokens agree, every token came in a chunk of its own.
#
# Needs Python's venv. Installs into .tools/real-engine, about 200 MB. The figures are no benchmark of llama.cpp: client
# and server share the machine, and the model computes almost nothing.
# Usage: real-engine.sh [MORE OPTIONS OF llm-bench load-test]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/pypi-tools.sh

venv=.tools/real-engine
requests=100
start_limit_s=60

SECONDS=0
pypi_install scripts/real-engine.txt "$venv"
echo "real-engine: $(du -sm "$venv" | cut -f1) MB in $venv, after $SECONDS s"
"${CARGO:-cargo}" build --quiet --locked --workspace --bins
program=$(realpath "${CARGO_TARGET_DIR:-target}/debug/llm-bench")

work=$(mktemp -d)
server=
end() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap end EXIT

"$venv/bin/python" scripts/real-engine/model.py "$work/model"
"$venv/bin/python" scripts/real-engine/serve.py "$work/model/model.gguf" 0 >"$work/url" 2>"$work/log" &
server=$!
started=$SECONDS
until [ -s "$work/url" ]; do
    if ! kill -0 "$server" 2>/dev/null || [ $((SECONDS - started)) -gt "$start_limit_s" ]; then
        cat "$work/log" >&2
        echo "real-engine: the server did not start" >&2
        exit 1
    fi
    sleep 0.1
done
url=$(cat "$work/url")

# check NAME OPTIONS...   Accepts an INVALID run too: the client's measuring error does not change the numbers of tokens.
check() {
    local name=$1 results=$work/$1
    shift
    # Away from a .env file of this folder, and without this shell's settings.
    (cd "$work" && exec env -i PATH="$PATH" HOME="$work" OPENAI_API_BASE="$url/v1" ANTHROPIC_API_BASE="$url" \
        "$program" load-test --model random-weights --tokenizer-id "$work/model/tokenizer.json" --seed 1 \
        --num-concurrent-requests 4 --max-num-completed-requests "$requests" --timeout 300 \
        --mean-input-tokens 300 --stddev-input-tokens 100 --mean-output-tokens 32 --stddev-output-tokens 16 \
        --no-calibration --allow-invalid --results-dir "$results" "$@" >"$work/$name.out") || {
        cat "$work/$name.out"
        return 1
    }
    python3 scripts/real-engine/agree.py "$name" "$results" "$requests"
}

check openai --llm-api openai "$@"
check openai-in-one-piece --llm-api openai --no-stream "$@"
check openai-completions --llm-api openai-completions "$@"
check anthropic --llm-api anthropic "$@"
kill -0 "$server" || { echo "real-engine: the server ended" >&2; exit 1; }
echo "real-engine: all agree, after $SECONDS s"
