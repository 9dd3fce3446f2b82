#!/usr/bin/env bash
# Checks the dependencies against deny.toml: licences, banned crates and sources always; security advisories only where their
# database, a git repository, can be fetched. REQUIRE_ADVISORIES=1 makes an
# unreachable database an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.20.2
tools=$PWD/.tools

# Not the crate's own release profile: it takes twice as long to compile, and the check takes a second.
install_deny() {
    echo "deny: installing cargo-deny $version into .tools (some minutes, once)" >&2
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_STRIP=true CARGO_TARGET_DIR="$tools/cargo-deny-target" \
        cargo install --quiet --locked --force --root "$tools" "cargo-deny@$version"
    rm -rf "$tools/cargo-deny-target"
}

has_version() {
    [ "$("$1" --version 2>/dev/null)" = "cargo-deny $version" ]
}

program=cargo-deny
if ! has_version "$program"; then
    program=$tools/bin/cargo-deny
    has_version "$program" || install_deny
fi

# Errors only: duplicate versions are warnings, which `cargo deny check bans` shows.
deny() {
    "$program" --locked --log-level error "$@"
}

deny check licenses bans sources
# git itself waits for minutes where the host is unreachable.
if fetch_log=$(GIT_TERMINAL_PROMPT=0 timeout 120 "$program" fetch db 2>&1); then
    deny --offline check advisories
elif [ "${REQUIRE_ADVISORIES:-0}" = 1 ]; then
    echo "$fetch_log" >&2
    echo "deny: the advisory database cannot be fetched, and REQUIRE_ADVISORIES=1" >&2
    exit 1
else
    echo "deny: NOT CHECKED: security advisories (their database cannot be fetched from here)"
fi
