#!/bin/sh
# Prints a value for every secret setting, NAME=VALUE a line, each of 256 random bits in hexadecimal (no character that
# a URL or a shell would read otherwise).
set -eu
for name in POSTGRES_PASSWORD POSTGRES_PRODUCER_PASSWORD POSTGRES_CONSUMER_PASSWORD \
    RABBITMQ_PASSWORD RABBITMQ_PRODUCER_PASSWORD RABBITMQ_CONSUMER_PASSWORD API_KEY API_KEY_PEPPER; do
    printf '%s=%s\n' "$name" "$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"
done
