"""Whether a database and a program go together (docs/how-to/upgrade.md): how far its tables are, and how far we are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection

from services.runtime.database import connect
from services.runtime.settings import SettingsError


class SchemaMismatch(SettingsError):
    """This release cannot work on that database; the message says why, and what would help."""


class Schema(NamedTuple):
    """The tables of one service, and the folder with its migrations."""

    name: str
    migrations: Path

    @property
    def newest(self) -> str:
        """The revision that this release needs. Revisions are numbered, so that of two the greater is the newer."""
        return max(file.name.partition("_")[0] for file in (self.migrations / "versions").glob("[0-9]*.py"))

    def revision(self, connection: Connection[Any]) -> str | None:
        """How far the database is; None where it has no tables of ours. Raises psycopg.Error."""
        try:
            with connection.transaction():
                row = connection.execute(f"SELECT version_num FROM {self.name}.alembic_version").fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return None
        return None if row is None else str(row[0])

    def lacks(self, found: str | None) -> str | None:
        """What a database at the revision ``found`` lacks, for a program that runs already; None where nothing."""
        if found is None:
            return f"the {self.name} database has no tables of ours; run byok db upgrade"
        if found < self.newest:
            return (
                f"the {self.name} database is at revision {found}, {self.newest} is needed; run byok db upgrade with "
                "this release"
            )
        return None

    def exceeds(self, found: str | None) -> str | None:
        """Why a program of this release must not begin on a database at the revision ``found``; None where it may."""
        if found is None or found <= self.newest:
            return None
        return (
            f"the {self.name} database is at revision {found}, and this release knows none after {self.newest}: a "
            "later release has upgraded it; run that one, or restore what was dumped before the upgrade"
        )

    def require(self, connection: Connection[Any]) -> None:
        """Raise SchemaMismatch where a program of this release must not begin; psycopg.Error where that is unknown."""
        found = self.revision(connection)
        if why := self.lacks(found) or self.exceeds(found):
            raise SchemaMismatch(why)

    def require_at(self, dsn: str, service: str) -> None:
        """``require`` of the database at ``dsn``, on a connection of its own."""
        with connect(dsn, service, autocommit=True) as connection:
            self.require(connection)
