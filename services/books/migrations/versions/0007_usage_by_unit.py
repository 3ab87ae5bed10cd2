"""Usage by unit: what was counted and served, and by which name of a card its model was priced."""

from alembic import op

revision = "0007"
down_revision = "0006"

_COLUMNS = """
ALTER TABLE ledger.entry
  ADD COLUMN priced_model text,
  ADD COLUMN usage jsonb,
  ADD COLUMN conditions jsonb,
  ADD COLUMN evidence jsonb,
  ADD CONSTRAINT usage_is_by_unit
    CHECK ((event_type = 'usage.token_usage.v2') = (usage IS NOT NULL)) NOT VALID;
-- priced_model is NULL where the rate card lists the model under the very name that was reported, as it mostly is.
"""
# Without the lock that keeps writers out.
_VALIDATE = "ALTER TABLE ledger.entry VALIDATE CONSTRAINT usage_is_by_unit"

_VIEW = """
CREATE OR REPLACE VIEW ledger.entries AS SELECT
  entry_id, kind, revision, adjusts, org_id, team_id, user_id, event_source, event_id, event_type, occurred_at,
  recorded_at, run_id, agent_id, workflow_id, node, tool, provider, model, tier, quantity, input_tokens,
  cached_input_tokens, output_tokens, key_source, byok_scope, credential_id, reason, flags, list_mc, charged_mc,
  saved_mc, rate_card, registry_seq, coalesce(priced_model, model) AS priced_model, usage, conditions
FROM ledger.entry;

CREATE FUNCTION ledger.negated(counts jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT jsonb_object_agg(key, -value::bigint) FROM jsonb_each_text(counts)
$$;
"""


def upgrade() -> None:
    for script in (_COLUMNS, _VALIDATE, _VIEW):
        op.execute(script)
