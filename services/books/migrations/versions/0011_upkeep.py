"""So that the books do not grow with every batch: covered ranges are merged; old dead letters removed, and counted."""

from alembic import op

revision = "0011"
down_revision = "0010"

# Seconds for a million ranges, and workers wait meanwhile: the checks are held against what is there.
_TABLES = """
ALTER TABLE ledger.covered_range
  -- How many batches it was merged from; recorded_at is when the last of them was booked, and this when the first was.
  ADD COLUMN batches bigint NOT NULL DEFAULT 1 CHECK (batches > 0),
  ADD COLUMN first_recorded_at timestamptz,
  ADD CONSTRAINT merged_since CHECK ((batches > 1) = (first_recorded_at IS NOT NULL)),
  ADD CONSTRAINT merged_in_order CHECK (first_recorded_at <= recorded_at);

-- Every removal of dead letters, for whoever asks where they are.
CREATE TABLE ledger.dead_letter_removal (
  removal_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  removed_at timestamptz NOT NULL DEFAULT now(),
  -- Up to when those had failed that no replay could have booked, and the others; null: none of the others was removed.
  failed_before timestamptz NOT NULL,
  replayable_before timestamptz,
  letters bigint NOT NULL CHECK (letters > 0)
);

-- How many were removed, by the beginning of the covered range that they lie in: conservation counts these instead.
CREATE TABLE ledger.removed_dead_letter (
  source_partition_id int NOT NULL REFERENCES ledger.source_partition,
  source_offset bigint NOT NULL,
  reason text NOT NULL,
  -- As the event said it; empty: it said none.
  event_type text NOT NULL,
  removal_id bigint NOT NULL REFERENCES ledger.dead_letter_removal,
  letters bigint NOT NULL CHECK (letters > 0),
  PRIMARY KEY (source_partition_id, source_offset, reason, event_type, removal_id)
);
"""

_APPEND_ONLY = """
-- Whoever may take rows out does it by a function below, which puts what they say in their place.
CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('covered_range', 'dead_letter')
      AND TG_TABLE_NAME = current_setting('byok.taken_out_of', true) THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION 'ledger.% is append-only: % is refused; correct by new entries', TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.dead_letter_removal
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.removed_dead_letter
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
"""

_FUNCTIONS = """
CREATE FUNCTION ledger.merge_covered_ranges(partition_id int, start_offset bigint, end_offset bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  merged record;
BEGIN
  PERFORM FROM ledger.covered_range
  WHERE source_partition_id = partition_id AND from_offset >= start_offset AND from_offset < end_offset
  ORDER BY from_offset FOR UPDATE;
  -- A statement of its own: it sees what those committed who were waited for.
  SELECT count(*) AS ranges, max(to_offset) AS upto, bool_and(from_offset = due) AS meet,
    bool_and(events > 0) AS filled, sum(events) AS events, sum(recorded) AS recorded, sum(duplicates) AS duplicates,
    sum(dead_letters) AS dead_letters, sum(batches) AS batches,
    min(coalesce(first_recorded_at, recorded_at)) AS since, max(recorded_at) AS until
  INTO merged
  FROM (SELECT *, lag(to_offset, 1, start_offset) OVER (ORDER BY from_offset) AS due FROM ledger.covered_range
        WHERE source_partition_id = partition_id AND from_offset >= start_offset AND from_offset < end_offset) AS r;
  IF merged.ranges < 2 THEN
    RETURN 0;
  END IF;
  -- A range without events is somebody's note of a loss, and stays as it is.
  IF merged.upto <> end_offset OR NOT merged.meet OR NOT merged.filled THEN
    RAISE EXCEPTION 'the covered ranges of source partition % from % to % do not meet end to end, or one has no events',
      partition_id, start_offset, end_offset USING ERRCODE = 'check_violation';
  END IF;
  PERFORM set_config('byok.taken_out_of', 'covered_range', true);
  DELETE FROM ledger.covered_range
  WHERE source_partition_id = partition_id AND from_offset >= start_offset AND from_offset < end_offset;
  PERFORM set_config('byok.taken_out_of', '', true);
  INSERT INTO ledger.covered_range VALUES (partition_id, start_offset, end_offset, merged.events, merged.recorded,
    merged.duplicates, merged.dead_letters, merged.until, merged.batches, merged.since);
  RETURN merged.ranges;
END $$;

CREATE FUNCTION ledger.remove_dead_letters(
  failed_before timestamptz, replayable_before timestamptz, useless text[], most int
) RETURNS TABLE (reason text, letters bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  IF greatest(failed_before, replayable_before) > now() - interval '30 days' THEN
    RAISE EXCEPTION 'dead letters are kept for 30 days at least' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM set_config('byok.taken_out_of', 'dead_letter', true);
  RETURN QUERY
  WITH old AS MATERIALIZED (
    SELECT dead_letter_id FROM ledger.dead_letter d
    WHERE failed_at < $1 AND relayed_at IS NOT NULL AND (
      failed_at < $2 OR reason = ANY ($3) OR ((masked OR whole_bytes IS NOT NULL) AND event IS NULL)
      OR EXISTS (SELECT FROM ledger.entry e WHERE (e.org_id, e.event_source, e.event_id, e.revision)
                 = (d.org_id, d.event_source, d.event_id, 0)))
    ORDER BY failed_at LIMIT $4 FOR UPDATE OF d
  ), gone AS (
    DELETE FROM ledger.dead_letter d USING old WHERE d.dead_letter_id = old.dead_letter_id
    RETURNING d.source_partition_id, d.source_offset, d.reason, coalesce(d.event_type, '') AS event_type
  ), removal AS (
    INSERT INTO ledger.dead_letter_removal (failed_before, replayable_before, letters)
    SELECT $1, $2, count(*) FROM gone HAVING count(*) > 0 RETURNING removal_id
  ), counted AS (
    INSERT INTO ledger.removed_dead_letter (source_partition_id, source_offset, reason, event_type, removal_id, letters)
    SELECT gone.source_partition_id, coalesce(covered.from_offset, gone.source_offset), gone.reason, gone.event_type,
      removal_id, count(*)
    FROM removal CROSS JOIN gone LEFT JOIN LATERAL (
      SELECT from_offset FROM ledger.covered_range c
      WHERE c.source_partition_id = gone.source_partition_id AND c.from_offset <= gone.source_offset
      ORDER BY c.from_offset DESC LIMIT 1) AS covered ON true
    GROUP BY 1, 2, 3, 4, 5
    RETURNING reason, letters
  )
  SELECT counted.reason, sum(counted.letters)::bigint FROM counted GROUP BY counted.reason;
  PERFORM set_config('byok.taken_out_of', '', true);
END $$;
"""

_ROLES = """
GRANT SELECT ON ledger.dead_letter_removal, ledger.removed_dead_letter TO ledger_service;
REVOKE ALL ON FUNCTION ledger.merge_covered_ranges, ledger.remove_dead_letters FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.merge_covered_ranges, ledger.remove_dead_letters TO ledger_service;
"""


def upgrade() -> None:
    for script in (_TABLES, _APPEND_ONLY, _FUNCTIONS, _ROLES):
        op.execute(script)
