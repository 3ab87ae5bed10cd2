"""Upgrading a database that is in use keeps what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config

from services.key_registry import migrations
from tests.integration.key_registry.conftest import PASSWORDS

_BEFORE = """
INSERT INTO registry.log (seq, key, payload, changed_at)
  SELECT n, 'k', '', '2026-05-01'::timestamptz + n * interval '1 second' FROM generate_series(1, 2) n;
INSERT INTO registry.slot (org_id, scope_type, scope_id, provider) VALUES ('acme', 'team', 't', 'openai');
INSERT INTO registry.credential
  SELECT name, seq, slot_id, org_id, scope_type, scope_id, provider, NULL, '…', 'f', 'ada', '2026-05-01'::date, status
  FROM registry.slot, (VALUES ('ended', 1, 'revoked'), ('used', 2, 'active')) of (name, seq, status);
INSERT INTO registry.credential_interval (credential_id, slot_id, active_from, active_to)
  SELECT credential_id, slot_id, '2026-05-01'::date, '2026-05-02'::date FROM registry.credential
    WHERE status = 'revoked'
  UNION ALL SELECT credential_id, slot_id, '2026-05-03'::date, NULL FROM registry.credential WHERE status = 'active';
INSERT INTO registry.secret_version (credential_id, version, format_version, kek_id, created_at, destroyed_at)
  VALUES ('ended', 1, 1, 'kek', '2026-05-01', '2026-05-02');
INSERT INTO registry.secret_version
  VALUES ('used', 1, 1, 'kek', repeat('w', 48)::bytea, repeat('n', 12)::bytea, repeat('c', 20)::bytea,
    repeat('n', 12)::bytea, '2026-05-03', NULL);
"""


def test_what_was_revoked_is_deleted_and_what_was_active_is_switched_on(postgres: Any) -> None:
    server, port = postgres
    with server.connect() as admin:
        admin.execute("CREATE DATABASE upgraded OWNER registry_owner")
    dsn = f"postgresql://registry_owner:{PASSWORDS['registry_owner']}@127.0.0.1:{port}/upgraded"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA registry")
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes.update(dsn=dsn, schema="registry")
        command.upgrade(config, "0001")
        connection.execute(_BEFORE)
        migrations.upgrade(dsn)
        found = connection.execute(
            "SELECT credential_id, deleted_at = '2026-05-02', revision, active_to IS NULL"
            " FROM registry.credential JOIN registry.credential_interval USING (credential_id) ORDER BY 1"
        ).fetchall()
    assert found == [("ended", True, 1, False), ("used", None, 1, True)]
