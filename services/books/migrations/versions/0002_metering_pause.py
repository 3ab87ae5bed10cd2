"""When metering was paused for too many dead letters, why, and when an operator let it go on."""

from alembic import op

revision = "0002"
down_revision = "0001"

_TABLES = """
CREATE TABLE ledger.metering_pause (
  pause_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  paused_at timestamptz NOT NULL DEFAULT now(),
  events bigint NOT NULL CHECK (events > 0),
  dead_letters bigint NOT NULL CHECK (dead_letters BETWEEN 1 AND events),
  window_seconds int NOT NULL CHECK (window_seconds > 0),
  -- The most frequent of the dead letters: [{"reason": ..., "event_source": ..., "dead_letters": ...}, ...].
  causes jsonb NOT NULL,
  resumed_at timestamptz CHECK (resumed_at >= paused_at)
);
-- One at a time is in force: for all workers, and until somebody resumes.
CREATE UNIQUE INDEX metering_pause_in_force ON ledger.metering_pause ((true)) WHERE resumed_at IS NULL;
GRANT SELECT, INSERT ON ledger.metering_pause TO ledger_service;
GRANT UPDATE (resumed_at) ON ledger.metering_pause TO ledger_service;
"""


def upgrade() -> None:
    op.execute(_TABLES)
