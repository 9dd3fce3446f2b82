#!/bin/sh
# Prints a line NAME=VALUE for every secret setting. Each value has 256 random bits in hexadecimal, so neither URLs nor shells need
# quoting.
set -eu
for name in POSTGRES_PASSWORD POSTGRES_PRODUCER_PASSWORD POSTGRES_CONSUMER_PASSWORD \
    RABBITMQ_PASSWORD RABBITMQ_PRODUCER_PASSWORD RABBITMQ_CONSUMER_PASSWORD API_KEY API_KEY_PEPPER; do
    printf '%s=%s\n' "$name" "$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"
done
