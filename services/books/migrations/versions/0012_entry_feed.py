"""Every entry gets a place, in an order in which none comes before what was read: readers miss and repeat none."""

from alembic import op

revision = "0012"
down_revision = "0011"

_TABLES = """
-- The entries of one statement, from its commit until they have places. A queue: rows are taken out by place_entries().
CREATE TABLE ledger.entry_batch (
  -- The order in which statements ran. Transactions commit in another, and a number that was rolled back never comes.
  batch bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  booked_at timestamptz NOT NULL DEFAULT now(),
  entries int NOT NULL CHECK (entries > 0),
  entry_ids uuid[] NOT NULL
);
-- Ids are hashes, which do not compress.
ALTER TABLE ledger.entry_batch ALTER entry_ids SET STORAGE EXTERNAL;
-- It is read from its beginning several times a second: what was taken out must not lie there for long.
ALTER TABLE ledger.entry_batch SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE TABLE ledger.entry_position (
  position bigint NOT NULL CHECK (position > 0),
  -- Without a foreign key, and not unique: an id comes out of the insert of its entry, which is. Either would cost more
  -- than the row.
  entry_id uuid NOT NULL
);

-- Whoever gives places holds this row. It knows in which run of which database the last one was given.
CREATE TABLE ledger.feed (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  database_run text
);
INSERT INTO ledger.feed (database_run) VALUES (NULL);
"""

_FUNCTIONS = """
-- By a trigger and not by whoever books: so no release, and nobody by hand, can book an entry that never gets a place.
CREATE FUNCTION ledger.queue_entries() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO ledger.entry_batch (entries, entry_ids)
  SELECT count(*), array_agg(entry_id) FROM booked HAVING count(*) > 0;
  RETURN NULL;
END $$;
CREATE TRIGGER queue_entries AFTER INSERT ON ledger.entry REFERENCING NEW TABLE AS booked
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.queue_entries();

-- Differs after whatever can have set the ledger back: a server that was started on older files, a database that was
-- copied, a schema that was loaded from a dump. Compared, never ordered.
CREATE FUNCTION ledger.database_run() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT concat_ws('/', extract(epoch FROM pg_postmaster_start_time()),
    (SELECT oid FROM pg_database WHERE datname = current_database()), 'ledger.feed'::regclass::oid)
$$;

CREATE FUNCTION ledger.place_entries(most int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  this_run CONSTANT text := ledger.database_run();
  last_run text;
  last_place bigint;
  placed bigint;
BEGIN
  IF NOT EXISTS (SELECT FROM ledger.entry_batch) THEN
    RETURN 0;
  END IF;
  -- One at a time, until its commit. So what is seen of the places is always a beginning of all of them.
  SELECT database_run INTO last_run FROM ledger.feed FOR UPDATE;
  -- A statement of its own: it sees what those committed who were waited for.
  SELECT coalesce(max(position), 0) INTO last_place FROM ledger.entry_position;
  IF last_run IS DISTINCT FROM this_run THEN
    -- Readers may have been further than what was restored. Places go on beyond any that can have been given: fewer
    -- than one a microsecond ever were. With a clock that is wrong they still rise.
    IF last_place > 0 THEN
      last_place := greatest(last_place, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
    END IF;
    UPDATE ledger.feed SET database_run = this_run;
  END IF;
  WITH oldest AS (
    SELECT batch, sum(entries) OVER (ORDER BY batch) - entries AS before
    FROM (SELECT batch, entries FROM ledger.entry_batch ORDER BY batch LIMIT 1000) AS first
  ), taken AS (
    DELETE FROM ledger.entry_batch WHERE batch IN (SELECT batch FROM oldest WHERE before < most)
    RETURNING batch, entry_ids
  )
  INSERT INTO ledger.entry_position (position, entry_id)
  SELECT last_place + row_number() OVER (ORDER BY batch, place), entry_id
  FROM taken CROSS JOIN unnest(entry_ids) WITH ORDINALITY AS one (entry_id, place)
  ORDER BY batch, place;
  GET DIAGNOSTICS placed = ROW_COUNT;
  RETURN placed;
END $$;
"""

# What was booked before. Workers wait meanwhile: 4 to 8 s for each million entries, measured.
_BACKFILL = """
INSERT INTO ledger.entry_position (position, entry_id)
SELECT row_number() OVER (ORDER BY recorded_at, entry_id), entry_id FROM ledger.entry ORDER BY recorded_at, entry_id;
ALTER TABLE ledger.entry_position ADD PRIMARY KEY (position);
UPDATE ledger.feed SET database_run = ledger.database_run();
"""

_APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.entry_position
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
"""

_VIEW = """
CREATE VIEW ledger.entry_feed AS
SELECT place.position, entries.* FROM ledger.entry_position place JOIN ledger.entries USING (entry_id);
COMMENT ON VIEW ledger.entry_feed IS
  'Entries in the order of their places, each shown once none can come to stand before it: read on from the last one.';
"""

_ROLES = """
GRANT SELECT ON ledger.entry_feed TO ledger_reader;
GRANT SELECT ON ledger.entry_batch, ledger.entry_position, ledger.feed, ledger.entry_feed TO ledger_service;
REVOKE ALL ON FUNCTION ledger.queue_entries, ledger.place_entries FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.place_entries TO ledger_service;
"""


def upgrade() -> None:
    for script in (_TABLES, _FUNCTIONS, _BACKFILL, _APPEND_ONLY, _VIEW, _ROLES):
        op.execute(script)
