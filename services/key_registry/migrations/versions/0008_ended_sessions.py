"""Since when a person's sessions count: whatever was signed in before is signed out, everywhere."""

from alembic import op

revision = "0008"
down_revision = "0007"

_SESSIONS = """
CREATE TABLE registry.ended_sessions (
  org_id text NOT NULL,
  subject text NOT NULL,
  ended_before timestamptz NOT NULL,
  PRIMARY KEY (org_id, subject)
);
CREATE INDEX ended_sessions_by_age ON registry.ended_sessions (ended_before);
"""
_GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON registry.ended_sessions TO registry_service;
"""


def upgrade() -> None:
    for script in (_SESSIONS, _GRANTS):
        op.execute(script)
