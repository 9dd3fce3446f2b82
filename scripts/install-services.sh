#!/bin/sh
# Installs the server programs of PostgreSQL (15 or newer) and RabbitMQ.
#
# The tests and `make services` start private servers from these programs, so no service is started here or
# at the next boot. Does nothing when they are installed. Otherwise installs them with apt-get (as root, or with a sudo that asks
# for no password), or prints in one line what to install and exits with 1.
set -eu

oldest_postgresql=15

has_postgresql() {
    for postgres in /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres "$(command -v postgres || true)"; do
        [ -x "$postgres" ] || continue
        major=$("$postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
        [ "${major:-0}" -ge "$oldest_postgresql" ] && [ -x "${postgres%/*}/initdb" ] && return 0
    done
    return 1
}

has_rabbitmq() {
    # `rabbitmq-env` tells the server's own scripts from Debian's wrapper, which insists on the system's one node.
    in_path=$(command -v rabbitmq-server || true)
    for folder in /usr/lib/rabbitmq/bin "${in_path%/*}"; do
        [ -x "$folder/rabbitmq-server" ] && [ -e "$folder/rabbitmq-env" ] && return 0
    done
    return 1
}

missing=
has_postgresql || missing="postgresql"
has_rabbitmq || missing="$missing${missing:+ }rabbitmq-server"
[ -n "$missing" ] || exit 0

install_command="sudo apt-get install -y --no-install-recommends $missing"
if ! command -v apt-get >/dev/null; then
    echo "missing: $missing (PostgreSQL must be $oldest_postgresql or newer); install with this system's package manager, or on Debian: $install_command" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        exec sudo -n sh "$0"
    fi
    echo "missing: $missing; install with: $install_command" >&2
    exit 1
fi

# Debian's packages start their service while they are installed, unless this file forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive

echo "installing: $missing" >&2
log=$(mktemp)
# The update fails where an additional repository is unreachable. The packages are in Debian's own, so only the installation counts.
apt-get update >"$log" 2>&1 || true
# shellcheck disable=SC2086 # the package names are separate words
if ! apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends $missing >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "could not install: $missing (the whole log: $log)" >&2
    exit 1
fi
rm -f "$log"

# Only services that this script has installed. Others belong to the user.
if command -v systemctl >/dev/null; then
    for package in $missing; do
        case $package in
            postgresql) units="postgresql.service" ;;
            rabbitmq-server) units="rabbitmq-server.service epmd.service epmd.socket" ;;
            *)
                echo "install-services: nobody has said which services the package $package starts" >&2
                exit 1
                ;;
        esac
        # shellcheck disable=SC2086 # the units are separate words
        systemctl disable $units >/dev/null 2>&1 || true
    done
fi

if ! has_postgresql; then
    echo "the packaged PostgreSQL is older than $oldest_postgresql; install a newer one: https://www.postgresql.org/download/" >&2
    exit 1
fi
