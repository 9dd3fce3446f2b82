#!/bin/sh
# Installs the tools that some faults need: network namespaces (ip, tc) and a wrong clock (libfaketime). Does nothing when they are
# installed; otherwise installs them with apt-get where it has the permission. Never fails, because a fault without its tool is
# reported as not run.
set -eu

missing=
command -v ip >/dev/null || [ -x /usr/sbin/ip ] || missing="iproute2"
ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || missing="$missing${missing:+ }libfaketime"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "not on this machine: $missing; the faults that need it will not run" >&2
    exit 0
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "not on this machine: $missing (sudo apt-get install -y $missing); the faults that need it will not run" >&2
        exit 0
    fi
    as_root="sudo -n"
fi
echo "installing: $missing" >&2
log=$(mktemp)
# shellcheck disable=SC2086 # the package names and the prefix are separate words
if ! { $as_root apt-get update && DEBIAN_FRONTEND=noninteractive $as_root apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "could not install: $missing; the faults that need it will not run" >&2
fi
rm -f "$log"
