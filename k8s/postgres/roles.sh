#!/bin/sh
# The roles of the services: they may log in, and nothing else until `llm-bench migrate` grants what each needs.
#
# The image runs this once, for an empty data directory. Again changes nothing but the passwords, so on a volume of an
# older version: kubectl -n llm-bench exec postgres-0 -- sh /docker-entrypoint-initdb.d/roles.sh
set -eu
psql --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv producer_password PRODUCER_PASSWORD
\getenv consumer_password CONSUMER_PASSWORD
SELECT format('CREATE ROLE %I LOGIN', name)
FROM (VALUES ('llm_bench_producer'), ('llm_bench_consumer')) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE llm_bench_producer PASSWORD :'producer_password';
ALTER ROLE llm_bench_consumer PASSWORD :'consumer_password';
SQL
