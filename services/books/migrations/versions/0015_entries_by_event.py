"""That an entry is booked once is said by its primary key alone; an index that is not unique finds entries by event."""

from alembic import op

revision = "0015"
down_revision = "0014"

# Workers wait meanwhile: 1.7 s for each million entries, measured. Who cannot wait makes it beforehand, with
# CREATE INDEX CONCURRENTLY and under its name. It comes before the key is dropped, so that readers are held up by the
# last moment alone.
_INDEX = """
-- Equal or by its beginning: an id is looked up by both, and in any locale these operators can do both.
CREATE INDEX IF NOT EXISTS entry_by_event ON ledger.entry (org_id, event_source, event_id text_pattern_ops);
"""

# The id is derived from these very columns. Looked up by what it says: in hash partitions the key has another name.
_WITHOUT_THE_KEY = """
DO $$
DECLARE
  unique_key name;
BEGIN
  FOR unique_key IN SELECT conname FROM pg_constraint WHERE conrelid = 'ledger.entry'::regclass
    AND pg_get_constraintdef(oid) = 'UNIQUE (org_id, event_source, event_id, revision, kind)'
  LOOP
    EXECUTE format('ALTER TABLE ledger.entry DROP CONSTRAINT %I', unique_key);
  END LOOP;
END $$;
"""


def upgrade() -> None:
    for script in (_INDEX, _WITHOUT_THE_KEY):
        op.execute(script)
