"""The relay remembers which topic it sent to, and how far: one that was made anew, or lost its end, is seen."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("ALTER TABLE registry.relay_cursor ADD COLUMN topic_id text, ADD COLUMN end_offset bigint")
    op.execute("GRANT UPDATE (topic_id, end_offset) ON registry.relay_cursor TO registry_service")
