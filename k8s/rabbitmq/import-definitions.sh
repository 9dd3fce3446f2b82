#!/bin/sh
# Imports definitions.json into the node of this container, and makes the services' users, as soon as that node is up.
#
# `load_definitions` in rabbitmq.conf would be shorter, but a node that loads definitions at boot does not create the
# user of RABBITMQ_DEFAULT_USER and RABBITMQ_DEFAULT_PASS, and passwords do not belong in definitions.json.
# Importing again changes nothing, so this may run at every start.
set -eu

# The server creates the Erlang cookie. A command that comes first would create another one beside it.
cookie="${HOME:-/var/lib/rabbitmq}/.erlang.cookie"
tries=60
until [ -s "$cookie" ] && rabbitmqctl --quiet await_startup --timeout 10 2>/dev/null; do
    tries=$((tries - 1))
    if [ "$tries" -eq 0 ]; then
        echo "RabbitMQ did not start, so its policies were not imported" >&2
        exit 1
    fi
    sleep 1
done
folder=$(dirname "$0")
rabbitmqctl --quiet import_definitions "$folder/definitions.json"

# The services' users, where they are given passwords. `--` ends the options: a password may begin with anything.
grep -Ev '^(#|$)' "$folder/permissions.txt" | while read -r whose configure write read; do
    case $whose in
    PRODUCER) password=${PRODUCER_PASSWORD:-} ;;
    CONSUMER) password=${CONSUMER_PASSWORD:-} ;;
    *)
        echo "permissions.txt: found $whose, expected PRODUCER or CONSUMER" >&2
        exit 1
        ;;
    esac
    [ -n "$password" ] || continue
    user=llm_bench_$(printf %s "$whose" | tr '[:upper:]' '[:lower:]')
    rabbitmqctl --quiet add_user -- "$user" "$password" 2>/dev/null ||
        rabbitmqctl --quiet change_password -- "$user" "$password"
    rabbitmqctl --quiet set_permissions --vhost / "$user" "$configure" "$write" "$read"
done
