"""The registry database's schema, step by step. Run as the owner of the tables, never as the service."""

from __future__ import annotations

from pathlib import Path

from alembic.script import ScriptDirectory

from services.runtime.migrations import upgrade_database

_DIRECTORY = Path(__file__).parent


def upgrade(admin_dsn: str) -> None:
    """Bring the registry database to the newest schema."""
    upgrade_database(admin_dsn, _DIRECTORY, "registry")


def newest_revision() -> str:
    """The revision that this code needs. Revisions are numbered, so that of two the greater is the newer."""
    head = ScriptDirectory(str(_DIRECTORY)).get_current_head()
    if head is None:
        raise LookupError("the registry's migrations are not packaged")
    return head
