"""No index over the hashes of the audit log: nobody looks one up, and its random order costs every lease."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("ALTER TABLE registry.audit DROP CONSTRAINT audit_hash_key")
