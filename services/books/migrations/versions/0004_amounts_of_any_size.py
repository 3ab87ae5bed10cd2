"""Totals of any size, and the entries that a late change could not be worked into."""

from alembic import op

revision = "0004"
down_revision = "0003"

_TABLES = """
-- What many customers use adds up without end; an entry has a limit, a sum of entries has none.
ALTER TABLE ledger.metric_total ALTER COLUMN value TYPE numeric;

-- Current entries that could not be rated anew when a change touched them: they stand as they are, until a later change
-- touches them and they can be.
CREATE TABLE ledger.unrated_entry (
  entry_id uuid PRIMARY KEY REFERENCES ledger.entry (entry_id),
  reason text NOT NULL CHECK (reason IN ('no_price', 'refused')),
  detail text NOT NULL,
  caused_by_seq bigint NOT NULL,
  since timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.unrated_entry TO ledger_service;
"""


def upgrade() -> None:
    op.execute(_TABLES)
