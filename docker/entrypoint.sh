#!/bin/sh
# Migrates the database, then serves it on $PORT. Options of `identity serve` may follow.
set -eu

# The embedded server would keep its data in the container, and lose it with it.
: "${DATABASE_URL:?set DATABASE_URL to the PostgreSQL to serve}"

identity db upgrade
exec identity serve --host 0.0.0.0 --port "${PORT:-8000}" --workers "${WEB_CONCURRENCY:-1}" "$@"
