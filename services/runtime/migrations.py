"""Runs a service's Alembic migrations as the owner of its tables. They are packaged, so no ini file is needed."""

from __future__ import annotations

import psycopg
from alembic import command, context
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from services.runtime.schema_version import Schema, SchemaMismatch

MIGRATION_LOCK = 4_270_001
"""The advisory lock of whoever migrates, in every database: two upgrades at once wait for each other."""


def upgrade_database(admin_dsn: str, schema: Schema) -> None:
    """Bring the tables of ``schema`` to the newest version; does nothing where they are.

    Raises SchemaMismatch where a later release has been there, with nothing changed; psycopg.Error.
    """
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        if why := schema.exceeds(schema.revision(connection)):
            raise SchemaMismatch(why)
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema.name}")
        config = Config()
        config.set_main_option("script_location", str(schema.migrations))
        config.attributes.update(dsn=admin_dsn, schema=schema.name)
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            # Such as a revision that only a branch of the code had.
            raise SchemaMismatch(f"the {schema.name} database cannot be upgraded from where it is: {error}") from error


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
