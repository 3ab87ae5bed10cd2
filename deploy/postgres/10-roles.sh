#!/bin/bash
# Databases and roles, once, when the data directory is made (docker-entrypoint-initdb.d). The same as
# services/local/embedded/databases.py makes for `byok up`: owners migrate, services own nothing, one reads the
# ledger's views, and one makes the shadow ledgers of `byok verify --replay`.
set -euo pipefail

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
  --set ledger_owner="$LEDGER_OWNER_PASSWORD" --set ledger_service="$LEDGER_SERVICE_PASSWORD" \
  --set ledger_replay="$LEDGER_REPLAY_PASSWORD" --set ledger_dashboard="$LEDGER_DASHBOARD_PASSWORD" \
  --set registry_owner="$REGISTRY_OWNER_PASSWORD" --set registry_service="$REGISTRY_SERVICE_PASSWORD" <<'SQL'
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

CREATE DATABASE ledger OWNER ledger_owner;
CREATE DATABASE registry OWNER registry_owner;
REVOKE ALL ON DATABASE ledger FROM PUBLIC;
REVOKE ALL ON DATABASE registry FROM PUBLIC;
-- Temporary tables are what batches are copied into; they are not the right to create anything that stays.
GRANT CONNECT, TEMPORARY ON DATABASE ledger TO ledger_service;
GRANT CONNECT, TEMPORARY ON DATABASE registry TO registry_service;
GRANT CONNECT ON DATABASE ledger TO ledger_reader;
SQL
