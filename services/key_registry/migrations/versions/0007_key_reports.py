"""How a key fared at its provider, as runners report it; and since when a key that was brought back is in use again."""

from alembic import op

revision = "0007"
down_revision = "0006"

# Of one version, as a check is: what was reported of the key before a rotation says nothing of the one after it.
_HEALTH = """
ALTER TABLE registry.secret_version
  ADD COLUMN restored_at timestamptz,
  ADD COLUMN health_outcome text CHECK (health_outcome IN ('accepted', 'exhausted', 'rejected')),
  ADD COLUMN health_at timestamptz,
  ADD COLUMN health_detail text,
  ADD CONSTRAINT reported_as_a_whole CHECK (
    num_nonnulls(health_outcome, health_at) IN (0, 2) AND (health_detail IS NULL OR health_outcome IS NOT NULL)
  );
CREATE INDEX failing_secret ON registry.secret_version (credential_id)
  WHERE health_outcome IN ('exhausted', 'rejected') AND restorable_until IS NULL AND destroyed_at IS NULL;
"""
_GRANTS = """
GRANT UPDATE (restored_at, health_outcome, health_at, health_detail) ON registry.secret_version TO registry_service;
"""


def upgrade() -> None:
    for script in (_HEALTH, _GRANTS):
        op.execute(script)
