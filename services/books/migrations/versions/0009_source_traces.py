"""Which trace a record, or an event in it, belonged to, where one was named: shown by receipts."""

from alembic import op

revision = "0009"
down_revision = "0008"

# By the place and not by the entry: a record of a thousand events is one row, and nothing is added to an entry's own.
_TRACES = """
CREATE TABLE ledger.source_trace (
  source_partition_id int NOT NULL,
  source_offset bigint NOT NULL,
  -- Of the event that names one of its own; -1: of all others in the record.
  source_index int NOT NULL CHECK (source_index >= -1),
  traceparent text NOT NULL CHECK (traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'),
  PRIMARY KEY (source_partition_id, source_offset, source_index)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.source_trace
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
GRANT SELECT, INSERT ON ledger.source_trace TO ledger_service;
"""


def upgrade() -> None:
    op.execute(_TRACES)
