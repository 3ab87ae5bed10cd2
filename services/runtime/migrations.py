"""Runs a service's Alembic migrations as the owner of its tables. They are packaged, so no ini file is needed."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import command, context
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

MIGRATION_LOCK = 4_270_001
"""The advisory lock of whoever migrates, in every database: two upgrades at once wait for each other."""


def upgrade_database(admin_dsn: str, directory: Path, schema: str) -> None:
    """Bring the tables of ``schema`` to the newest version; does nothing where they are. Raises psycopg.Error."""
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        config = Config()
        config.set_main_option("script_location", str(directory))
        config.attributes.update(dsn=admin_dsn, schema=schema)
        command.upgrade(config, "head")


def run_environment() -> None:
    """What every ``migrations/env.py`` does: one transaction for all steps, the version table in our schema."""
    attributes = context.config.attributes
    dsn: str = attributes["dsn"]
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, version_table_schema=attributes["schema"])
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
