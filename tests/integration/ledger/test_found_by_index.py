"""What only few of an organization's entries have is found by an index, and not looked for among all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event

from services.domain.permissions import Sight
from services.ledger.access import Visible
from services.ledger.database import open_engine
from services.ledger.query import EntriesQuery, Selection
from services.ledger.repository import EntryRepository

_EVERYTHING = Visible(everything=True)
_EVERY_KEY = Sight(everything=True, organization=True, teams=(), user=None)
# Runs of eight entries of ten people; two entries have a flag.
_ENTRIES = """
INSERT INTO ledger.entry (entry_id, kind, revision, org_id, user_id, event_source, event_id, event_type, occurred_at,
  run_id, succeeded, quantity, input_tokens, cached_input_tokens, output_tokens, key_source, reason, flags, list_mc,
  charged_mc, saved_mc, rate_card, registry_seq, payload_hash, source_partition_id, source_offset, source_index)
SELECT gen_random_uuid(), 'charge', 0, 'acme', 'user-' || n % 10, 'test', n::text, 'usage.tool_call.v1',
  now() - make_interval(mins => n), 'run-' || n / 8, true, 1, 0, 0, 0, 'none', 'not_model_usage',
  CASE WHEN n % 10000 = 9 THEN '{usage_partial}' ELSE '{}' END::text[], 1, 1, 0, 'card', 1, sha256(n::text::bytea),
  1, n, 0
FROM generate_series(1, 20000) AS n
"""


@pytest.fixture(scope="module")
def engine(stack: Any) -> Iterator[Engine]:
    """Of a ledger with many entries; each statement is answered with its plan."""
    with stack.postgres.connect() as admin:
        admin.execute("CREATE DATABASE many TEMPLATE ledger OWNER ledger_owner")
    with psycopg.connect(stack.dsn("ledger_owner", "many"), autocommit=True) as owner:
        owner.execute(_ENTRIES)
        owner.execute("ANALYZE ledger.entry")
    engine = open_engine(stack.dsn("ledger_service", "many"))

    def explained(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> tuple[str, Any]:
        return f"EXPLAIN {statement}", parameters

    event.listen(engine, "before_cursor_execute", explained, retval=True)
    yield engine
    engine.dispose()
    with stack.postgres.connect() as admin:
        admin.execute("DROP DATABASE many WITH (FORCE)")


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        pytest.param({"run_id": "run-7"}, "entry_by_run", id="a run"),
        pytest.param({"run_id": "none"}, "entry_by_run", id="an absent run"),
        pytest.param({"user_id": "nobody"}, "entry_by_user", id="an absent user"),
        pytest.param({"flag": "usage_partial"}, "entry_with_flags", id="a flag"),
        pytest.param({"flag": "platform_fallback"}, "entry_with_flags", id="an absent flag"),
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
