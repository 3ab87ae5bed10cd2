"""What was sent from this machine: so that lines that have moved are noticed also where no ledger can be asked.

A file of SQLite in ``$XDG_STATE_HOME/byok`` (``~/.local/state``): ids, organizations, and hashes of what was sent. It
knows nothing of what others sent; the ledger does.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from services.domain.usage import Identity, UsageEvent, payload_hash

_WAIT_SECONDS = 10
_TABLE = """
CREATE TABLE IF NOT EXISTS sent (
  cluster_id TEXT, event_source TEXT, event_id TEXT, org_id TEXT, payload_hash BLOB NOT NULL,
  PRIMARY KEY (cluster_id, event_source, event_id, org_id)
) WITHOUT ROWID
"""
# What stands there was sent first, and is what is booked.
_REMEMBER = "INSERT OR IGNORE INTO sent VALUES (?, ?, ?, ?, ?)"


def state_file() -> Path:
    """Where it is kept."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "byok" / "published.sqlite"


class Remembered:
    """The events that were sent to one cluster. Answers as the ledger does; every method raises sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection, cluster_id: str) -> None:
        """``connection`` commits by itself."""
        self._connection = connection
        self._cluster_id = cluster_id

    @classmethod
    def open(cls, cluster_id: str) -> Self | None:
        """None where this machine keeps nothing: no home, no place, or a file that is none of ours."""
        try:
            file = state_file()
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            connection = sqlite3.connect(file, timeout=_WAIT_SECONDS, isolation_level=None)
            connection.execute(_TABLE)
        except (OSError, RuntimeError, sqlite3.Error):
            return None
        return cls(connection, cluster_id)

    def charges(self, org_ids: Iterable[str], source: str, ids: Sequence[str]) -> Mapping[Identity, bytes]:
        """Of those of the ids that were sent, for any of the organizations, the hash of what was."""
        places = ", ".join("?" * len(ids))
        rows = self._connection.execute(
            "SELECT org_id, event_source, event_id, payload_hash FROM sent"
            f" WHERE cluster_id = ? AND event_source = ? AND event_id IN ({places})",
            (self._cluster_id, source, *ids),
        )
        wanted = set(org_ids)
        return {Identity(*identity): digest for *identity, digest in rows if identity[0] in wanted}

    def has_ids_like(self, org_ids: Iterable[str], source: str, prefix: str) -> bool:
        """Whether an id with this beginning was sent for the source, for any of the organizations."""
        rows = self._connection.execute(
            "SELECT DISTINCT org_id FROM sent"
            " WHERE cluster_id = ? AND event_source = ? AND event_id >= ? AND event_id < ?",
            (self._cluster_id, source, prefix, f"{prefix}\U0010ffff"),
        )
        return not {org_id for (org_id,) in rows}.isdisjoint(org_ids)

    def add(self, events: Iterable[UsageEvent]) -> None:
        """Keep in mind what is about to be sent."""
        rows = [(self._cluster_id, each.source, each.id, each.org_id, payload_hash(each)) for each in events]
        self._connection.execute("BEGIN")
        self._connection.executemany(_REMEMBER, rows)
        self._connection.execute("COMMIT")
