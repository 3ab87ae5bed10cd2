"""What a summary takes on a ledger of many entries, from the roll-ups and from the entries, and what the sums cost.

A PostgreSQL of its own is started on this machine, with as many entries of one organization as are asked for, made in
SQL: 2,000 people in 50 teams, 30 models, 90 days. About 1.1 GB of disk for each million, given back afterwards.

    python benchmarks/bench_summary.py --entries 10000000
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import psycopg
from bench_growth import Server
from psycopg import Connection
from sqlalchemy.exc import OperationalError

from services.domain.permissions import Sight
from services.ledger.access import Visible
from services.ledger.database import STATEMENT_SECONDS_MAX, open_engine
from services.ledger.query import Selection, SummaryQuery, parse_groups
from services.ledger.repository import EntryRepository

_ASKED = 40
_PART = 200_000
_BATCH = 2_000
_PLACED = 20_000
_FIRST_DAY = "2026-08-31T00:00:00Z"
_EVERY_KEY = Sight(everything=True, organization=True, teams=(), user=None)
_SUMS = ("sum_use", "sum_user", "sum_by_hour", "sum_by_day", "sum_by_user_hour", "sum_by_user_day", "sum_by_user_month")
_WITHOUT_SUMS = """
CREATE OR REPLACE FUNCTION ledger.add_up_entries(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$
"""
# Runs of eight entries each: a person in one of two teams, one of four models, twelve hours of every day.
_ENTRIES = """
WITH numbered AS (
  SELECT n, n / 8 AS run, n * 90.0 / %(entries)s AS day,
    abs(hashint8(n / 8) %% 2000) AS person, (ARRAY[0, 1, 1, 1, 2, 2, 2, 2])[1 + n %% 8] AS what
  FROM generate_series(%(start)s::bigint, %(stop)s::bigint - 1) AS n
), placed AS (
  SELECT n, what, person, (person * 13 + run %% 4 * 7) %% 30 AS model,
    CASE WHEN run %% 5 = 0 THEN person * 17 %% 50 ELSE person %% 50 END AS team,
    %(first_day)s::timestamptz + floor(day)::int * interval '1 day'
      + (6 + 12 * (day - floor(day))) * interval '1 hour' AS at
  FROM numbered
), priced AS (
  SELECT *, what > 0 AS of_model, what > 0 AND (team + model / 6) %% 3 = 0 AS own, 1000000 + n %% 7 * 1003 AS list_mc
  FROM placed
)
INSERT INTO ledger.entry (entry_id, kind, revision, org_id, team_id, user_id, event_source, event_id, event_type,
  occurred_at, recorded_at, succeeded, provider, model, tier, quantity, input_tokens, cached_input_tokens,
  output_tokens, key_source, byok_scope, credential_id, reason, flags, list_mc, charged_mc, saved_mc, rate_card,
  registry_seq, payload_hash, source_partition_id, source_offset, source_index)
SELECT gen_random_uuid(), 'charge', 0, 'acme', 'team-' || team, 'user-' || person, 'bench', n::text,
  (ARRAY['usage.tool_call.v1', 'usage.token_usage.v1', 'usage.node_call.v1'])[1 + what], at, at, true,
  CASE WHEN of_model THEN 'provider-' || model / 6 END, CASE WHEN of_model THEN 'model-' || model END,
  CASE WHEN of_model THEN (ARRAY['basic', 'standard', 'premium'])[1 + model %% 3] END,
  1, what * 700, what * 300, what * 90,
  CASE WHEN own THEN 'byok' WHEN of_model THEN 'platform' ELSE 'none' END,
  CASE WHEN own THEN 'team' END, CASE WHEN own THEN 'key-' || team END,
  CASE WHEN own THEN 'team_key' WHEN of_model THEN 'no_key' ELSE 'not_model_usage' END, '{}',
  list_mc, CASE WHEN own THEN list_mc / 20 ELSE list_mc END, CASE WHEN own THEN list_mc - list_mc / 20 ELSE 0 END,
  '2026-11-01', 1, sha256(n::text::bytea), 1, n, 0
FROM priced
"""
_ALL = Visible(everything=True)
_MEMBER = Visible(everything=False, user_id="user-7", team_ids=("team-7",))
_MONTH = {"from": "2026-10-01T04:00:00Z", "to": "2026-11-01T04:00:00Z", "tz": "America/New_York"}
_QUESTIONS: list[tuple[str, dict[str, str], Visible]] = [
    ("the total", {}, _ALL),
    ("by provider", {"group_by": "provider"}, _ALL),
    ("by provider, key source and scope", {"group_by": "provider,key_source,byok_scope"}, _ALL),
    ("by model", {"group_by": "model"}, _ALL),
    ("by day", {"group_by": "day"}, _ALL),
    ("by day in New York", {"group_by": "day", "tz": "America/New_York"}, _ALL),
    ("by day in Kathmandu (UTC+5:45)", {"group_by": "day", "tz": "Asia/Kathmandu"}, _ALL),
    ("by month and provider in New York", {"group_by": "month,provider", "tz": "America/New_York"}, _ALL),
    ("by user", {"group_by": "user_id"}, _ALL),
    ("by team", {"group_by": "team_id"}, _ALL),
    ("by user, of one provider", {"group_by": "user_id", "provider": "provider-1"}, _ALL),
    ("a member's by provider", {"group_by": "provider"}, _MEMBER),
    ("a member's by day", {"group_by": "day"}, _MEMBER),
    ("a member's by day in New York", {"group_by": "day", "tz": "America/New_York"}, _MEMBER),
    ("one month of New York, by user", _MONTH | {"group_by": "user_id"}, _ALL),
    ("one month of New York, by day and provider", _MONTH | {"group_by": "day,provider"}, _ALL),
]


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--entries", type=int, default=10_000_000)
    entries = options.parse_args().entries
    with tempfile.TemporaryDirectory(prefix="byok-bench-") as folder, closing(Server(Path(folder))) as server:
        server.create("books")
        print(f"{entries:,} entries; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}", flush=True)
        with psycopg.connect(server.dsn("books", "ledger_owner"), autocommit=True) as ledger:
            _fill(ledger, entries)
            _place(ledger, entries)
            _sizes(ledger)
        engine = open_engine(server.dsn("books"))
        repository = EntryRepository(engine)
        print(f"\n{'milliseconds':<44}{'p50':>9}{'p95':>9}{'worst':>9}{'groups':>9}{'of entries':>13}")
        for question in _QUESTIONS:
            _ask(repository, *question)
        engine.dispose()
    return 0


def _fill(ledger: Connection[Any], entries: int) -> None:
    """The entries, and the places and sums of nearly all of them as the sequencer gives them, part by part."""
    made = added = 0.0
    for start in range(0, entries, _PART):
        began = time.perf_counter()
        _make(ledger, start, min(start + _PART, entries), entries)
        made += time.perf_counter() - began
        began = time.perf_counter()
        while ledger.execute("SELECT ledger.place_entries(20000)").fetchone() != (0,):
            pass
        added += time.perf_counter() - began
    print(f"made in {made:,.0f} s, places and sums in {added:,.0f} s ({1e6 * added / entries:.1f} µs an entry)")
    ledger.execute("VACUUM ANALYZE")


def _make(ledger: Connection[Any], start: int, stop: int, entries: int) -> None:
    asked = {"start": start, "stop": stop, "entries": entries, "first_day": _FIRST_DAY}
    for first in range(start, stop, _BATCH):
        ledger.execute(_ENTRIES, asked | {"start": first, "stop": min(first + _BATCH, stop)})


def _place(ledger: Connection[Any], first: int) -> None:
    """What a place costs the sequencer's session, with sums and without, in batches as large as they come."""
    start = first
    for batch in (100, 1_000, 5_000):
        for adding, what in ((True, "places and sums"), (False, "places alone")):
            with ledger.transaction(force_rollback=True):
                if not adding:
                    ledger.execute(_WITHOUT_SUMS)
                asked = {"entries": first, "first_day": _FIRST_DAY}
                for at in range(start, start + _PLACED, batch):
                    ledger.execute(_ENTRIES, asked | {"start": at, "stop": at + batch})
                used, began = _processor_seconds(ledger), time.perf_counter()
                while ledger.execute("SELECT ledger.place_entries(%s)", (batch,)).fetchone() != (0,):
                    pass
                used, wall = _processor_seconds(ledger) - used, time.perf_counter() - began
            start += _PLACED
            each = f"{1e6 * used / _PLACED:6.1f} µs of processor, {1e6 * wall / _PLACED:6.1f} µs in all"
            print(f"{what} in batches of {batch:>5,}: {each} an entry", flush=True)


def _processor_seconds(ledger: Connection[Any]) -> float:
    """What the server's process for this session has used."""
    fields = Path(f"/proc/{ledger.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _sizes(ledger: Connection[Any]) -> None:
    for table in ("entry", "entry_position", *_SUMS):
        size = ledger.execute(
            "SELECT pg_size_pretty(pg_total_relation_size(%(name)s::regclass)), reltuples::bigint FROM pg_class"
            " WHERE oid = %(name)s::regclass",
            {"name": f"ledger.{table}"},
        ).fetchone()
        print("{:<20}{:>12}{:>14,} rows".format(table, *(size or ("?", 0))))


def _ask(repository: EntryRepository, what: str, asked: dict[str, str], visible: Visible) -> None:
    query = SummaryQuery.model_validate(asked)
    selection, groups = Selection("acme", query, visible, _EVERY_KEY), parse_groups(query.group_by)

    def ask() -> tuple[float, int]:
        began = time.perf_counter()
        found = repository.sums(selection, groups, query.tz, most=10_001)
        return 1_000 * (time.perf_counter() - began), len(found.rows)

    repository.knows_zone(query.tz)
    ask()
    answers = sorted(ask() for _ in range(_ASKED))
    times = [each for each, _ in answers]
    with patch("services.ledger.sums.serving", lambda _names, _periods: []):
        try:
            raw = f"{ask()[0]:,.0f}"
        except OperationalError:
            raw = f"over {1_000 * STATEMENT_SECONDS_MAX:,}"
    count = answers[0][1]
    p95 = times[int(0.95 * len(times))]
    print(f"{what:<44}{median(times):>9.1f}{p95:>9.1f}{times[-1]:>9.1f}{count:>9,}{raw:>13}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
