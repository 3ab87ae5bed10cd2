"""The feed as a test writes and reads it: entries in bulk, a reader that goes on from its last position, sequencers."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection

from services.books.locks import SEQUENCER
from services.domain.entries import EntryKind, entry_id
from services.domain.usage import Identity
from services.metering.sequencer import place_entries
from services.runtime.database import connect
from tests.integration.metering.ledgers import Ledger

PAGE = """
SELECT position, entry_id FROM ledger.entry_feed WHERE position > %s ORDER BY position LIMIT %s
"""
_BOOK = """
INSERT INTO ledger.entry (entry_id, kind, revision, org_id, user_id, event_source, event_id, event_type, occurred_at,
  succeeded, quantity, input_tokens, cached_input_tokens, output_tokens, key_source, reason, flags, list_mc, charged_mc,
  saved_mc, rate_card, registry_seq, payload_hash, source_partition_id, source_offset, source_index)
SELECT id, 'charge', 0, 'acme', 'ada', 's', event_id, 'usage.tool_call.v1', '2026-11-10T00:00:00Z', true, 1, 0, 0, 0,
  'none', 'not_model_usage', '{}', 1, 1, 0, '2026-11-01', 1, sha256(event_id::bytea), 1, 0, 0
FROM unnest(%s::uuid[], %s::text[]) AS new (id, event_id)
"""
_SEQUENCER = """
import os, threading
from services.domain.entries import EntryKind, entry_id
from services.domain.usage import Identity
from services.metering.sequencer import Sequencer
Sequencer(os.environ["DSN_OF_TEST"]).run(threading.Event())
"""


class Place(NamedTuple):
    """One entry as the feed shows it."""

    position: int
    entry_id: uuid.UUID


def book(connection: Connection[Any], how_many: int) -> list[uuid.UUID]:
    """Insert charges of as many new events in one statement, as whoever the connection is; their ids."""
    events = [str(uuid.uuid4()) for _ in range(how_many)]
    ids = [entry_id(Identity("acme", "s", event), 0, EntryKind.CHARGE) for event in events]
    connection.execute(_BOOK, (ids, events))
    return ids


def place(ledger: Ledger, *, most: int = 20_000) -> int:
    """What a sequencer does until nothing waits; how many entries got places."""
    with closing(connect(ledger.dsn, "test-sequencer", autocommit=True)) as connection:
        placed = 0
        while now := place_entries(connection, most=most):
            placed += now
        return placed


def feed(ledger: Ledger, after: int = 0) -> list[Place]:
    """All that the view shows by now."""
    with psycopg.connect(ledger.dsn, autocommit=True) as connection:
        return read(connection, after, 10_000_000)


def read(connection: Connection[Any], after: int, limit: int = 100) -> list[Place]:
    """One page, as a loader asks for it."""
    return [Place(*row) for row in connection.execute(PAGE, (after, limit))]


def leaders(ledger: Ledger) -> list[int]:
    """Who places entries now: the processes at the server of those that hold the lock, which is one at most."""
    found = ledger.rows(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        SEQUENCER,
    )
    return [row["pid"] for row in found]


@contextmanager
def sequencer(ledger: Ledger) -> Iterator[subprocess.Popen[bytes]]:
    """A sequencer in a process of its own, killed at the end."""
    environment = os.environ | {"DSN_OF_TEST": ledger.dsn}
    with subprocess.Popen([sys.executable, "-c", _SEQUENCER], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()
