# shellcheck shell=bash
# Functions that install programs from PyPI for the checks, each list in a folder of its own below .tools/. Source it from the
# repository's root. As root on Debian it installs missing packages; otherwise it prints what is missing.

# apt_install PACKAGE PURPOSE
apt_install() {
    local as_root=() check
    check=$(basename "$0" .sh)
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
        echo "$check: $2 is missing; on Debian: sudo apt-get install --no-install-recommends $1" >&2
        exit 1
    fi
    echo "$check: installing $1 (for $2)" >&2
    local log
    log=$(mktemp)
    if ! {
        "${as_root[@]}" apt-get update || true # an unreachable extra repository need not matter
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$1"
    } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        exit 1
    fi
    rm -f "$log"
}

# pypi_install LIST VENV   Installs the pinned packages of a list, once for each version of the list.
pypi_install() {
    cmp -s "$1" "$2/installed.txt" && return
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv "Python's venv"
    rm -rf "$2"
    python3 -m venv "$2"
    "$2/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$1"
    cp "$1" "$2/installed.txt"
}
