"""Other names of models."""

from alembic import op

revision = "0006"
down_revision = "0005"

_TABLE = """
CREATE TABLE registry.model_aliases (
  provider text PRIMARY KEY,
  aliases jsonb NOT NULL CHECK (jsonb_typeof(aliases) = 'object'),
  seq bigint NOT NULL
);
"""
_GRANTS = """
GRANT SELECT, INSERT ON registry.model_aliases TO registry_service;
GRANT UPDATE (aliases, seq) ON registry.model_aliases TO registry_service;
"""


def upgrade() -> None:
    for script in (_TABLE, _GRANTS):
        op.execute(script)
