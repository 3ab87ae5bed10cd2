"""Whose dead letters do not count towards a pause; and dead letters are found by organization and time."""

from alembic import op

revision = "0005"
down_revision = "0004"

_TABLES = """
CREATE TABLE ledger.ignored_organization (
  org_id text NOT NULL,
  ignored_at timestamptz NOT NULL DEFAULT now(),
  -- When an operator said that they count again.
  counted_at timestamptz CHECK (counted_at >= ignored_at),
  PRIMARY KEY (org_id, ignored_at)
);
CREATE UNIQUE INDEX ignored_organization_now ON ledger.ignored_organization (org_id) WHERE counted_at IS NULL;
GRANT SELECT, INSERT ON ledger.ignored_organization TO ledger_service;
GRANT UPDATE (counted_at) ON ledger.ignored_organization TO ledger_service;

CREATE INDEX dead_letter_by_organization ON ledger.dead_letter (org_id, failed_at);
"""


def upgrade() -> None:
    op.execute(_TABLES)
