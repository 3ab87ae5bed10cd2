"""The models of both databases are what their migrations make of a real PostgreSQL.

Columns are compared with their types, whether they may be null, and what the database fills in. Constraints and indexes
are the migrations' alone: a model may leave them out, but claim none that is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, String, Table, create_engine, inspect
from sqlalchemy.types import TypeEngine
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

from services.books import migrations as ledger_migrations
from services.books import tables as ledger
from services.key_registry import migrations as registry_migrations
from services.key_registry.database import tables as registry
from tests.integration.real_parts import Database, running_postgres

# The registry's one table that only SQL speaks of. The ledger is written in SQL: of it the models hold what is read.
WITHOUT_MODEL = {"registry.relay_cursor"}
NOT_HELD = {
    "registry": {"remove_index", "remove_constraint", "remove_fk"},
    "ledger": {"remove_index", "remove_constraint", "remove_fk", "remove_column", "remove_table", "modify_default"},
}
VIEW = ledger.table_of(ledger.EntryView)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with running_postgres(tmp_path_factory.mktemp("models")) as database:
        yield database


def _migrated(server: Database, name: str, upgrade: Callable[[str], None]) -> Iterator[Connection]:
    server.create(f"{name}_models", f"{name}_owner")
    dsn = server.dsn(f"{name}_owner", f"{name}_models")
    upgrade(dsn)
    engine = create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture(scope="module")
def registry_database(server: Database) -> Iterator[Connection]:
    yield from _migrated(server, "registry", registry_migrations.upgrade)


@pytest.fixture(scope="module")
def ledger_database(server: Database) -> Iterator[Connection]:
    yield from _migrated(server, "ledger", ledger_migrations.upgrade)


def _types_differ(
    context: object, there: object, ours: object, kind: TypeEngine[Any], model: TypeEngine[Any]
) -> bool | None:
    """Text of any length is one type under two names, and an array of it, too; Alembic judges the rest."""
    if isinstance(kind, sqlalchemy.ARRAY) and isinstance(model, sqlalchemy.ARRAY):
        kind, model = kind.item_type, model.item_type
    any_length = [isinstance(each, String | AutoString) and each.length is None for each in (kind, model)]
    return False if all(any_length) else None


def _differences(connection: Connection, schema: str) -> list[str]:
    """What Alembic would change in the database to make it what the models say, one line each."""

    def is_compared(item: Any, name: str, kind: str, reflected: bool, counterpart: Any) -> bool:
        table = item if isinstance(item, Table) else item.table
        return table.schema == schema and table is not VIEW and f"{schema}.{table.name}" not in WITHOUT_MODEL

    options = {
        "compare_type": _types_differ,
        "compare_server_default": True,
        "include_schemas": True,
        "include_name": lambda name, kind, _: kind != "schema" or name == schema,
        "include_object": is_compared,
        "version_table_schema": schema,
    }
    found = compare_metadata(MigrationContext.configure(connection, opts=options), SQLModel.metadata)
    # Changes of one column come as a list of their own.
    changes = [change for each in found for change in (each if isinstance(each, list) else [each])]
    return [" ".join(map(str, change)) for change in changes if change[0] not in NOT_HELD[schema]]


def test_the_registrys_models_are_what_its_migrations_make(registry_database: Connection) -> None:
    assert _differences(registry_database, "registry") == []


def test_the_ledgers_models_are_what_its_migrations_make(ledger_database: Connection) -> None:
    assert _differences(ledger_database, "ledger") == []


MODELS = [table for table in SQLModel.metadata.sorted_tables if table.schema in NOT_HELD and table is not VIEW]


@pytest.mark.parametrize("table", MODELS, ids=lambda table: table.fullname)
def test_a_models_primary_key_is_the_tables(table: Table, request: pytest.FixtureRequest) -> None:
    """Alembic does not look at it, and the ORM tells rows apart by it."""
    connection = request.getfixturevalue(f"{table.schema}_database")
    key = inspect(connection).get_pk_constraint(table.name, schema=table.schema)
    assert [column.name for column in table.primary_key] == key["constrained_columns"]


def test_the_view_has_the_columns_of_its_model_in_their_order(ledger_database: Connection) -> None:
    seen = Table(VIEW.name, sqlalchemy.MetaData(), schema=VIEW.schema, autoload_with=ledger_database)
    assert [column.name for column in seen.columns] == list(ledger.VIEW)
    assert [column.name for column in seen.columns if not _is_of_type_of(column, VIEW.columns[column.name])] == []


def _is_of_type_of(column: Column[Any], model: Column[Any]) -> bool:
    if _types_differ(None, None, None, column.type, model.type) is False:
        return True
    return column.type.python_type is model.type.python_type


def test_a_difference_is_found(registry_database: Connection) -> None:
    head = registry.AuditHead.__table__.name  # type: ignore[attr-defined]
    with registry_database.begin_nested() as undone:
        registry_database.exec_driver_sql(f"ALTER TABLE registry.{head} ALTER last_at TYPE timestamp, ADD more int")
        registry_database.exec_driver_sql("ALTER TABLE registry.credential ALTER label SET NOT NULL")
        registry_database.exec_driver_sql("CREATE TABLE registry.unheard_of (one int)")
        found = _differences(registry_database, "registry")
        undone.rollback()
    assert [line.split()[0] for line in found] == ["remove_table", "modify_type", "remove_column", "modify_nullable"]
