"""What the registry may read of the ledger: the ledger's copy of its log, by which it knows whether it is old."""

from alembic import op

revision = "0008"
down_revision = "0007"

# Databases that are older than the role do without; docs/how-to/deploy.md says how to make it there.
_GRANTS = """
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'ledger_registry') THEN
    GRANT USAGE ON SCHEMA ledger TO ledger_registry;
    GRANT SELECT ON ledger.registry_change TO ledger_registry;
  END IF;
END $$
"""


def upgrade() -> None:
    op.execute(_GRANTS)
