#!/bin/bash
# Databases and roles, once, when the data directory is made (docker-entrypoint-initdb.d). The same as
# services/local/embedded/databases.py makes for `byok up`: owners migrate, services own nothing, one reads the
# ledger's views, one makes the shadow ledgers of `byok verify --replay`, one compares the registry's log. And one for
# postgres_exporter. Each one's password is a file in $PASSWORDS.
set -euo pipefail

: "${PASSWORDS:=/run/passwords}"
roles=(ledger_owner ledger_service ledger_replay ledger_dashboard ledger_registry registry_owner registry_service monitoring)

passwords() {
  local role password
  for role in "${roles[@]}"; do
    password=$(<"$PASSWORDS/$role")
    # As psql reads what stands in quotes.
    password=${password//\\/\\\\}
    password=${password//\'/\'\'}
    printf "%s '%s'\n" "\set $role" "$password"
  done
}

# Passwords come by the standard input, for arguments are seen by all.
{ passwords; cat <<'SQL'; } | psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres
SET password_encryption = 'scram-sha-256';
-- Passwords must not reach the server's log when a statement fails.
SET log_min_error_statement = panic;

CREATE ROLE ledger_owner LOGIN PASSWORD :'ledger_owner';
CREATE ROLE ledger_service LOGIN PASSWORD :'ledger_service';
-- Makes databases beside the real ones, and cannot enter those.
CREATE ROLE ledger_replay LOGIN CREATEDB PASSWORD :'ledger_replay';
CREATE ROLE registry_owner LOGIN PASSWORD :'registry_owner';
CREATE ROLE registry_service LOGIN PASSWORD :'registry_service';
-- What billing dashboards read the views as: GRANT ledger_reader TO <a login role>.
CREATE ROLE ledger_reader NOLOGIN;
CREATE ROLE ledger_dashboard LOGIN PASSWORD :'ledger_dashboard' IN ROLE ledger_reader;
-- As whom the registry asks whether it is old: it reads the ledger's copy of the registry's log, and nothing else.
CREATE ROLE ledger_registry LOGIN PASSWORD :'ledger_registry';
-- Sees how the server does, and no table of ours.
CREATE ROLE monitoring LOGIN PASSWORD :'monitoring' IN ROLE pg_monitor;

CREATE DATABASE ledger OWNER ledger_owner;
CREATE DATABASE registry OWNER registry_owner;
REVOKE ALL ON DATABASE ledger FROM PUBLIC;
REVOKE ALL ON DATABASE registry FROM PUBLIC;
-- Temporary tables are what batches are copied into; they are not the right to create anything that stays.
GRANT CONNECT, TEMPORARY ON DATABASE ledger TO ledger_service;
GRANT CONNECT, TEMPORARY ON DATABASE registry TO registry_service;
GRANT CONNECT ON DATABASE ledger TO ledger_reader, ledger_registry;
SQL
