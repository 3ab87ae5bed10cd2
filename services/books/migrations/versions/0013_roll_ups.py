"""Sums of entries by hour and by day, added up where entries get their places, so that the two are never apart."""

from alembic import op

revision = "0013"
down_revision = "0012"

_USE = (
    *("org_id", "event_type", "provider", "model", "priced_model", "tier", "key_source", "byok_scope", "reason"),
    *("kind", "rate_card"),
)
_USER = ("org_id", "user_id", "team_id")
_SUMS = ("events", "quantity", "input_tokens", "cached_input_tokens", "output_tokens", "list_mc", "charged_mc")

# Entries have a limit and sums have none.
_SUM_COLUMNS = """
  events bigint NOT NULL,
  quantity numeric NOT NULL,
  input_tokens numeric NOT NULL,
  cached_input_tokens numeric NOT NULL,
  output_tokens numeric NOT NULL,
  list_mc numeric NOT NULL,
  charged_mc numeric NOT NULL,
"""

# A name that place_entries() of the release before looks for: whoever waits in it for this upgrade fails, and begins
# again with the function below. It would give places without adding up.
_FENCE = "ALTER TABLE ledger.feed RENAME COLUMN database_run TO run"

_TABLES = f"""
-- What was used, and how it was charged: each combination that entries have, once, under the digest of its values.
CREATE TABLE ledger.sum_use (
  use_id uuid PRIMARY KEY,
  org_id text NOT NULL,
  event_type text NOT NULL,
  provider text,
  model text,
  priced_model text,
  tier text,
  key_source text NOT NULL,
  byok_scope text,
  reason text NOT NULL,
  kind text NOT NULL,
  rate_card text NOT NULL
);
CREATE INDEX sum_use_of_organization ON ledger.sum_use (org_id);

-- Who used it: each user in each team, and outside of any.
CREATE TABLE ledger.sum_user (
  user_key uuid PRIMARY KEY,
  org_id text NOT NULL,
  user_id text NOT NULL,
  team_id text
);
CREATE INDEX sum_user_of_organization ON ledger.sum_user (org_id);

CREATE TABLE ledger.sum_by_hour (use_id uuid NOT NULL, hour timestamptz NOT NULL, {_SUM_COLUMNS}
  PRIMARY KEY (use_id, hour));
CREATE TABLE ledger.sum_by_day (use_id uuid NOT NULL, day date NOT NULL, {_SUM_COLUMNS}
  PRIMARY KEY (use_id, day));
CREATE TABLE ledger.sum_by_user_hour (
  user_key uuid NOT NULL, hour timestamptz NOT NULL, use_id uuid NOT NULL, {_SUM_COLUMNS}
  PRIMARY KEY (user_key, hour, use_id));
CREATE TABLE ledger.sum_by_user_day (user_key uuid NOT NULL, day date NOT NULL, {_SUM_COLUMNS}
  PRIMARY KEY (user_key, day));
CREATE TABLE ledger.sum_by_user_month (user_key uuid NOT NULL, month date NOT NULL, {_SUM_COLUMNS}
  PRIMARY KEY (user_key, month));

-- The rows of now are written several times a second: room on their pages keeps them out of the index.
ALTER TABLE ledger.sum_by_hour SET (fillfactor = 70);
ALTER TABLE ledger.sum_by_day SET (fillfactor = 70);
ALTER TABLE ledger.sum_by_user_day SET (fillfactor = 70);
ALTER TABLE ledger.sum_by_user_month SET (fillfactor = 70);
ALTER TABLE ledger.sum_by_user_hour SET (fillfactor = 90);
"""


def _digest(columns: tuple[str, ...]) -> str:
    # The text of an array tells NULL from '' and one value from two. What cannot be forged cannot be confused.
    text = f"ARRAY[{', '.join(columns)}]::text"
    return f"encode(substr(sha256(convert_to({text}, 'UTF8')), 1, 16), 'hex')::uuid"


def _add(table: str, *keys: str) -> str:
    return f"""
      INSERT INTO ledger.{table} AS old ({", ".join((*keys, *_SUMS))})
      SELECT {", ".join((*keys, *(f"sum({name})" for name in _SUMS)))} FROM keyed GROUP BY {", ".join(keys)}
      ON CONFLICT ({", ".join(keys)}) DO UPDATE SET
        {", ".join(f"{name} = old.{name} + excluded.{name}" for name in _SUMS)}"""


def _name(table: str, key: str, columns: tuple[str, ...]) -> str:
    listed = ", ".join((key, *columns))
    return f"INSERT INTO ledger.{table} ({listed}) SELECT DISTINCT {listed} FROM keyed ON CONFLICT DO NOTHING"


def _add_up(which: str) -> str:
    dimensions = ", ".join(dict.fromkeys((*_USE, *_USER)))
    return f"""
    WITH summed AS MATERIALIZED (
      SELECT {dimensions}, date_trunc('hour', occurred_at, 'UTC') AS hour,
        sum(CASE kind WHEN 'reversal' THEN -1 ELSE 1 END)::bigint AS events,
        {", ".join(f"sum({name}) AS {name}" for name in _SUMS[1:])}
      FROM ledger.entries WHERE {which} GROUP BY {dimensions}, hour
    ), keyed AS MATERIALIZED (
      SELECT *, (hour AT TIME ZONE 'UTC')::date AS day, date_trunc('month', hour AT TIME ZONE 'UTC')::date AS month,
        {_digest(_USE)} AS use_id, {_digest(_USER)} AS user_key
      FROM summed
    ), uses AS ({_name("sum_use", "use_id", _USE)}
    ), users AS ({_name("sum_user", "user_key", _USER)}
    ), by_hour AS ({_add("sum_by_hour", "use_id", "hour")}
    ), by_day AS ({_add("sum_by_day", "use_id", "day")}
    ), by_user_day AS ({_add("sum_by_user_day", "user_key", "day")}
    ), by_user_month AS ({_add("sum_by_user_month", "user_key", "month")}
    )
    {_add("sum_by_user_hour", "user_key", "hour", "use_id")}"""


_FUNCTIONS = f"""
-- How many entries there are is known only when it runs. So their index is used, and groups are made without sorting,
-- whatever the planner takes them for.
CREATE FUNCTION ledger.add_up_entries(ids uuid[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_sort = off SET work_mem = '64MB' SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  {_add_up("entry_id = ANY (ids)")};
END $$;

CREATE OR REPLACE FUNCTION ledger.place_entries(most int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  this_run CONSTANT text := ledger.database_run();
  last_run text;
  last_place bigint;
  ids uuid[];
BEGIN
  IF NOT EXISTS (SELECT FROM ledger.entry_batch) THEN
    RETURN 0;
  END IF;
  -- One at a time, until its commit. So what is seen of the places is always a beginning of all of them.
  SELECT run INTO last_run FROM ledger.feed FOR UPDATE;
  -- A statement of its own: it sees what those committed who were waited for.
  SELECT coalesce(max(position), 0) INTO last_place FROM ledger.entry_position;
  IF last_run IS DISTINCT FROM this_run THEN
    -- Readers may have been further than what was restored. Places go on beyond any that can have been given: fewer
    -- than one a microsecond ever were. With a clock that is wrong they still rise.
    IF last_place > 0 THEN
      last_place := greatest(last_place, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
    END IF;
    UPDATE ledger.feed SET run = this_run;
  END IF;
  WITH oldest AS (
    SELECT batch, booked_at, sum(entries) OVER (ORDER BY batch) - entries AS before
    FROM (SELECT batch, booked_at, entries FROM ledger.entry_batch ORDER BY batch LIMIT 1000) AS first
  ), taken AS (
    DELETE FROM ledger.entry_batch
    WHERE batch IN (SELECT batch FROM oldest WHERE before < most)
      -- What one transaction booked stays together: no sum is without the correction of what it sees taken back.
      OR booked_at = (SELECT booked_at FROM oldest WHERE before < most ORDER BY batch DESC LIMIT 1)
    RETURNING batch, entry_ids
  ), placed AS (
    INSERT INTO ledger.entry_position (position, entry_id)
    SELECT last_place + row_number() OVER (ORDER BY batch, place), entry_id
    FROM taken CROSS JOIN unnest(entry_ids) WITH ORDINALITY AS one (entry_id, place)
    ORDER BY batch, place
    RETURNING entry_id
  )
  SELECT coalesce(array_agg(entry_id), '{{}}') INTO ids FROM placed;
  PERFORM ledger.add_up_entries(ids);
  RETURN cardinality(ids);
END $$;
"""

# Of what has a place. What still waits for one is added up with it.
_BACKFILL = f"""
SET LOCAL work_mem = '256MB';
{_add_up("entry_id IN (SELECT entry_id FROM ledger.entry_position)")};
ANALYZE ledger.sum_use, ledger.sum_user, ledger.sum_by_hour, ledger.sum_by_day, ledger.sum_by_user_hour,
  ledger.sum_by_user_day, ledger.sum_by_user_month;
"""


_VIEW_SUMS = ", ".join((*_SUMS, "list_mc - charged_mc AS saved_mc"))
_VIEWS = f"""
CREATE VIEW ledger.hourly_sums AS
SELECT {", ".join(_USE)}, hour, {_VIEW_SUMS}
FROM ledger.sum_by_hour JOIN ledger.sum_use USING (use_id);
COMMENT ON VIEW ledger.hourly_sums IS 'Sums of the feed by hour of occurred_at. Amounts are microcredits.';

CREATE VIEW ledger.daily_sums AS
SELECT {", ".join(_USE)}, day, {_VIEW_SUMS}
FROM ledger.sum_by_day JOIN ledger.sum_use USING (use_id);
COMMENT ON VIEW ledger.daily_sums IS 'As hourly_sums, by day (UTC).';

CREATE VIEW ledger.daily_user_sums AS
SELECT {", ".join(_USER)}, day, {_VIEW_SUMS}
FROM ledger.sum_by_user_day JOIN ledger.sum_user USING (user_key);
COMMENT ON VIEW ledger.daily_user_sums IS 'As daily_sums, by user and team alone.';

CREATE VIEW ledger.monthly_user_sums AS
SELECT {", ".join(_USER)}, month, {_VIEW_SUMS}
FROM ledger.sum_by_user_month JOIN ledger.sum_user USING (user_key);
COMMENT ON VIEW ledger.monthly_user_sums IS 'As daily_user_sums, by month (UTC).';

CREATE VIEW ledger.hourly_user_sums AS
SELECT {", ".join(f"used.{name}" for name in _USE)}, user_id, team_id, hour, {_VIEW_SUMS}
FROM ledger.sum_by_user_hour JOIN ledger.sum_use used USING (use_id) JOIN ledger.sum_user USING (user_key);
COMMENT ON VIEW ledger.hourly_user_sums IS 'As hourly_sums, by user and team as well.';
"""

_ROLES = """
GRANT SELECT ON ledger.hourly_sums, ledger.daily_sums, ledger.hourly_user_sums, ledger.daily_user_sums,
  ledger.monthly_user_sums TO ledger_reader, ledger_service;
GRANT SELECT ON ledger.sum_use, ledger.sum_user, ledger.sum_by_hour, ledger.sum_by_day, ledger.sum_by_user_hour,
  ledger.sum_by_user_day, ledger.sum_by_user_month TO ledger_service;
REVOKE ALL ON FUNCTION ledger.add_up_entries FROM PUBLIC;
"""


def upgrade() -> None:
    for script in (_FENCE, _TABLES, _FUNCTIONS, _BACKFILL, _VIEWS, _ROLES):
        op.execute(script)
