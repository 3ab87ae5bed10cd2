"""A ledger that grows: rows made in SQL, half of them of one organization, the others of organizations of one size.

So a question about the one shows what the size of an organization costs, and one about the others what the size of the
ledger does. Every step spreads over the same 90 days. The product's own sequencer gives the places and adds up sums.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from psycopg import Connection

from services.metering.sequencer import Sequencer

LARGE = "large"
"""The organization that has half of all entries."""
SMALL_ENTRIES = 10_000
"""How many each of the others has."""
RUN_ENTRIES = 8
_PART = 20_000
_WAIT_SECONDS = 3_600
# Runs of eight entries: a person in one of two teams, one of four models. One run in 512 has entries with a flag.
_ROWS = """
WITH numbered AS (
  SELECT n, n / 8 AS run, (n - %(start)s) * 90.0 / %(rows)s AS day,
    CASE WHEN n / 8 %% 2 = 0 THEN 'large' ELSE 'small-' || %(start)s || '-' || n / 16 %% %(organizations)s END
      AS org_id,
    CASE WHEN n / 8 %% 2 = 0 THEN abs(hashint8(n / 8) %% 2000) ELSE abs(hashint8(n / 8) %% 20) END AS person,
    (ARRAY[0, 1, 1, 1, 2, 2, 2, 2])[1 + n %% 8] AS what
  FROM generate_series(%(first)s::bigint, %(last)s::bigint - 1) AS n
), placed AS (
  SELECT n, run, org_id, what, person, (person * 13 + run %% 4 * 7) %% 30 AS model,
    CASE WHEN run %% 5 = 0 THEN person * 17 %% 50 ELSE person %% 50 END AS team,
    timestamptz '2026-08-31T00:00:00Z' + floor(day)::int * interval '1 day'
      + (6 + 12 * (day - floor(day))) * interval '1 hour' AS at
  FROM numbered
), priced AS (
  SELECT *, what > 0 AS of_model, what > 0 AND (team + model / 6) %% 3 = 0 AS own, 1000000 + n %% 7 * 1003 AS list_mc
  FROM placed
)
INSERT INTO ledger.entry (entry_id, kind, revision, org_id, team_id, user_id, event_source, event_id, event_type,
  occurred_at, run_id, agent_id, succeeded, provider, model, tier, quantity, input_tokens, cached_input_tokens,
  output_tokens, key_source, byok_scope, credential_id, reason, flags, list_mc, charged_mc, saved_mc, rate_card,
  registry_seq, payload_hash, source_partition_id, source_offset, source_index)
SELECT gen_random_uuid(), 'charge', 0, org_id, 'team-' || team,
  CASE WHEN n %% 100003 = 17 THEN 'seldom' ELSE 'user-' || person END, 'bench', 'grown-' || n,
  (ARRAY['usage.tool_call.v1', 'usage.token_usage.v1', 'usage.node_call.v1'])[1 + what], at,
  md5(run::text)::uuid::text, 'agent-' || person %% 7, true,
  CASE WHEN of_model THEN 'provider-' || model / 6 END, CASE WHEN of_model THEN 'model-' || model END,
  CASE WHEN of_model THEN (ARRAY['basic', 'standard', 'premium'])[1 + model %% 3] END,
  1, what * 700, what * 300, what * 90,
  CASE WHEN own THEN 'byok' WHEN of_model THEN 'platform' ELSE 'none' END,
  CASE WHEN own THEN 'team' END, CASE WHEN own THEN 'key-' || team END,
  CASE WHEN own THEN 'team_key' WHEN of_model THEN 'no_credential' ELSE 'not_model_usage' END,
  CASE WHEN own AND run %% 512 < 2 THEN '{credential_claim_rejected}' ELSE '{}' END::text[],
  list_mc, CASE WHEN own THEN list_mc / 20 ELSE list_mc END, CASE WHEN own THEN list_mc - list_mc / 20 ELSE 0 END,
  '2026-11-01', 1, sha256(n::text::bytea), 1, n, 0
FROM priced
"""


def grow(owner: Connection[Any], service_dsn: str, start: int, rows: int) -> float:
    """Add rows from number ``start`` on, wait for their places and sums, and tidy up; how many seconds it took."""
    began, stop = time.monotonic(), threading.Event()
    sequencing = threading.Thread(target=Sequencer(service_dsn).run, args=(stop,))
    sequencing.start()
    try:
        organizations = max(1, rows // 2 // SMALL_ENTRIES)
        for first in range(start, start + rows, _PART):
            last = min(first + _PART, start + rows)
            asked = {"start": start, "rows": rows, "organizations": organizations, "first": first, "last": last}
            owner.execute(_ROWS, asked)
        _wait_for_places(owner)
    finally:
        stop.set()
        sequencing.join()
    owner.execute("VACUUM ANALYZE")
    return time.monotonic() - began


def _wait_for_places(owner: Connection[Any]) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while owner.execute("SELECT EXISTS (SELECT FROM ledger.entry_batch)").fetchone() == (True,):
        if time.monotonic() > deadline:
            raise SystemExit("the entries got no places")
        time.sleep(0.2)


def sizes(owner: Connection[Any]) -> dict[str, float]:
    """Megabytes of the entries, of each of their indexes, and of all tables with theirs."""
    found = owner.execute(
        "SELECT 'all tables', sum(pg_total_relation_size(oid)) FROM pg_class"
        " WHERE relnamespace = 'ledger'::regnamespace AND relkind = 'r'"
        " UNION ALL SELECT 'the entries', pg_table_size('ledger.entry')"
        " UNION ALL SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index"
        " WHERE indrelid = 'ledger.entry'::regclass"
    )
    return {f"{name.removeprefix('ledger.')}, MB": int(size) / 1e6 for name, size in found}
