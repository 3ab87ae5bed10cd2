"""Of a dead letter that is not kept as it was sent: how long it was, and the event in it for the replay."""

from alembic import op

revision = "0003"
down_revision = "0002"

_COLUMNS = """
ALTER TABLE ledger.dead_letter
  -- How many bytes were refused, where the payload is only their beginning.
  ADD COLUMN whole_bytes bigint CHECK (whole_bytes > octet_length(payload)),
  -- The known fields of a valid event of which the payload is masked or cut. Sent again by a replay; shown to nobody.
  ADD COLUMN event bytea;
CREATE OR REPLACE TRIGGER append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF dead_letter_id, source_partition_id,
    source_offset, source_index, reason, detail, failed_at, org_id, event_source, event_id, event_type, record_key,
    payload, masked, whole_bytes, event
  ON ledger.dead_letter FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
"""


def upgrade() -> None:
    op.execute(_COLUMNS)
