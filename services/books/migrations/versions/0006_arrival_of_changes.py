"""In which order registry changes came, for readers go on by it: one that was missing comes after later ones."""

from alembic import op

revision = "0006"
down_revision = "0005"

# It writes the table anew: ten seconds for a million changes, and workers that have one to append wait meanwhile.
_COLUMNS = """
-- Given out under a lock that lasts until the commit, so that nobody sees a change before one that came earlier.
ALTER TABLE ledger.registry_change ADD COLUMN arrival bigint GENERATED ALWAYS AS IDENTITY;
CREATE UNIQUE INDEX registry_change_by_arrival ON ledger.registry_change (arrival);
"""


def upgrade() -> None:
    op.execute(_COLUMNS)
