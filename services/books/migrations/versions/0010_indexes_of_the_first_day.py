"""Two indexes that ledgers of the first hour lack: the migration that made them was changed after they were made."""

from alembic import op

revision = "0010"
down_revision = "0009"

_INDEXES = """
DO $$ BEGIN
  IF (SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('ledger.entry_by_time') AND indnatts = 3) = 0 THEN
    DROP INDEX IF EXISTS ledger.entry_by_time;
    CREATE INDEX entry_by_time ON ledger.entry (org_id, occurred_at, entry_id);
  END IF;
END $$;
CREATE INDEX IF NOT EXISTS entry_by_recording ON ledger.entry USING brin (recorded_at);
"""


def upgrade() -> None:
    op.execute(_INDEXES)
