#!/bin/sh
# Imports definitions.json into the node of this container, as soon as that node is up.
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
exec rabbitmqctl --quiet import_definitions "$(dirname "$0")/definitions.json"
