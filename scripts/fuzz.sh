#!/usr/bin/env bash
# Fuzzes the decoder of messages and the merge of statistics, each for some seconds (default 60), from the corpus in the
# repository. With MINIMISE=1 the corpus is then replaced by the fewest inputs with the same coverage.
#
# Usage: scripts/fuzz.sh [SECONDS]. Installs cargo-fuzz into .tools where it is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.13.2
seconds=${1:-60}
# Longer inputs are slow and do not increase the coverage.
longest=1024
export PATH="$PWD/.tools/bin:$PATH"
# Allows the stable compiler to use the unstable options for the sanitizer and the coverage.
export RUSTC_BOOTSTRAP=1

[ "$(cargo fuzz --version 2>/dev/null)" = "cargo-fuzz $version" ] ||
    cargo install --quiet --locked --root .tools "cargo-fuzz@$version"
for target in message_decode statistics_merge; do
    kept=tests/fuzz/corpus/$target.tar
    corpus=tests/fuzz/target/corpus/$target
    found=tests/fuzz/target/found/$target
    rm -rf "$corpus"
    mkdir -p "$corpus" "$found"
    tar --extract --file "$kept" --directory "$corpus"
    cargo fuzz run --fuzz-dir tests/fuzz "$target" "$found" "$corpus" -- \
        -max_total_time="$seconds" -max_len="$longest" -timeout=10 -print_final_stats=1
    if [ "${MINIMISE:-0}" = 1 ]; then
        fewest=$(mktemp -d)
        cargo fuzz run --fuzz-dir tests/fuzz "$target" "$fewest" "$found" "$corpus" -- -merge=1 -max_len="$longest"
        (cd "$fewest" && tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
            --mode=u+rw,go=r --file - -- *) >"$kept"
        rm -rf "$fewest"
    fi
done
