"""What only few of an organization's entries have is found by an index, and not looked for among all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from sqlalchemy import Engine, event

from services.cli.usage.booked import Booked
from services.domain.permissions import Sight
from services.ledger.access import Visible
from services.ledger.database import open_engine
from services.ledger.query import EntriesQuery, Selection
from services.ledger.repository import EntryRepository
from services.metering.dead_letters.resend import Wanted, newest
from services.runtime.database import connect

_EVERYTHING = Visible(everything=True)
_OF_ACME = Wanted(org_id="acme")
_EVERY_KEY = Sight(everything=True, organization=True, teams=(), user=None)
# Runs of eight entries of ten people and of forty sources; two entries have a flag.
_ENTRIES = """
INSERT INTO ledger.entry (entry_id, kind, revision, org_id, user_id, event_source, event_id, event_type, occurred_at,
  run_id, succeeded, quantity, input_tokens, cached_input_tokens, output_tokens, key_source, reason, flags, list_mc,
  charged_mc, saved_mc, rate_card, registry_seq, payload_hash, source_partition_id, source_offset, source_index)
SELECT gen_random_uuid(), 'charge', 0, 'acme', 'user-' || n % 10, 'file:' || n / 500, 'line-' || n % 500,
  'usage.tool_call.v1', now() - make_interval(mins => n), 'run-' || n / 8, true, 1, 0, 0, 0, 'none', 'not_model_usage',
  CASE WHEN n % 10000 = 9 THEN '{usage_partial}' ELSE '{}' END::text[], 1, 1, 0, 'card', 1, sha256(n::text::bytea),
  1, n, 0
FROM generate_series(1, 20000) AS n
"""
_LETTERS = """
WITH place AS (
  INSERT INTO ledger.source_partition (cluster_id, topic, partition, origin_offset, next_offset)
  VALUES ('many', 'many', 0, 0, 0) RETURNING source_partition_id
)
INSERT INTO ledger.dead_letter (source_partition_id, source_offset, source_index, reason, detail, org_id, event_source,
  event_id, payload, masked)
SELECT source_partition_id, n, 0, 'unpriced_model', '', 'acme', 'file:7', 'line-' || n, '', false
FROM place, generate_series(490, 509) AS n
"""


@pytest.fixture(scope="module")
def many(stack: Any) -> Iterator[str]:
    """The DSN of a ledger with many entries."""
    with stack.postgres.connect() as admin:
        admin.execute("CREATE DATABASE many TEMPLATE ledger OWNER ledger_owner")
    with psycopg.connect(stack.dsn("ledger_owner", "many"), autocommit=True) as owner:
        for statement in (_ENTRIES, _LETTERS, "ANALYZE ledger.entry"):
            owner.execute(statement)
    yield stack.dsn("ledger_service", "many")
    with stack.postgres.connect() as admin:
        admin.execute("DROP DATABASE many WITH (FORCE)")


@pytest.fixture(scope="module")
def engine(many: str) -> Iterator[Engine]:
    """Each statement is answered with its plan."""
    engine = open_engine(many)

    def explained(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> tuple[str, Any]:
        return f"EXPLAIN {statement}", parameters

    event.listen(engine, "before_cursor_execute", explained, retval=True)
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        pytest.param({"run_id": "run-7"}, "entry_by_run", id="a run"),
        pytest.param({"run_id": "none"}, "entry_by_run", id="an absent run"),
        pytest.param({"user_id": "nobody"}, "entry_by_user", id="an absent user"),
        pytest.param({"flag": "usage_partial"}, "entry_with_flags", id="a flag"),
        pytest.param({"flag": "platform_fallback"}, "entry_with_flags", id="an absent flag"),
        pytest.param({"event_source": "file:7", "event_id": "line-7"}, "entry_by_event", id="an event"),
        pytest.param({"event_id": "line-7"}, "entry_by_event", id="an event of whatever source"),
        pytest.param({"event_id": "none"}, "entry_by_event", id="an absent event"),
        pytest.param({"event_source": "file:none"}, "entry_by_event", id="an absent source"),
        pytest.param({}, "entry_by_time", id="the newest"),
        pytest.param({"user_id": "user-3"}, "entry_by_time", id="somebody who is there often"),
    ],
)
def test_a_page_is_read_by_the_index_that_finds_it(engine: Engine, asked: dict[str, str], index: str) -> None:
    selection = Selection("acme", EntriesQuery.model_validate(asked), _EVERYTHING, _EVERY_KEY)
    rows = EntryRepository(engine).page(selection, after=None, order="desc", limit=10)
    plan = "\n".join(row["QUERY PLAN"] for row in rows)
    assert f" {index} " in plan, plan
    assert "Seq Scan" not in plan, plan


def _scans(connection: Connection[Any]) -> tuple[int, int]:
    """How often the table of entries was read whole until now, and how often the index by event was asked."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        """SELECT t.seq_scan, i.idx_scan FROM pg_stat_all_tables t JOIN pg_stat_all_indexes i USING (relid)
           WHERE i.indexrelname = 'entry_by_event'"""
    ).fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        pytest.param(
            lambda connection: len(Booked(connection).charges(["acme"], "file:7", [f"line-{n}" for n in range(600)])),
            500,
            id="which lines of a file are booked",
        ),
        pytest.param(
            lambda connection: len(Booked(connection).charges(["acme"], "file:new", [f"line-{n}" for n in range(600)])),
            0,
            id="of a new file none",
        ),
        pytest.param(
            lambda connection: Booked(connection).has_ids_like(["acme"], "file:7", "line-"), True, id="whether one is"
        ),
        pytest.param(
            lambda connection: Booked(connection).has_ids_like(["acme"], "file:7", "row-"), False, id="none begins so"
        ),
        pytest.param(
            lambda connection: Booked(connection).has_ids_like(["acme"], "file:new", "line-"), False, id="none of it"
        ),
        pytest.param(
            lambda connection: sum(letter.booked for letter in newest(connection, _OF_ACME, 20)[0]),
            10,
            id="which dead letters are booked meanwhile",
        ),
    ],
)
def test_what_is_asked_by_event_is_found_by_event(many: str, ask: Callable[[Any], object], answer: object) -> None:
    with connect(many, "test", autocommit=True) as connection:
        whole, by_event = _scans(connection)
        assert ask(connection) == answer
        whole_then, by_event_then = _scans(connection)
    assert whole_then == whole
    assert by_event_then > by_event
