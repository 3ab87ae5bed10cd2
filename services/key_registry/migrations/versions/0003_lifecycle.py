"""The life of a credential: disabling, rotating, checking, deleting; what admins change at once; retried requests."""

from alembic import op

revision = "0003"
down_revision = "0002"

# Whether a key is in use follows from its intervals and the plan, so only that it was deleted is a fact of its own.
_CREDENTIAL = """
ALTER TABLE registry.credential
  ADD COLUMN revision int NOT NULL DEFAULT 1 CHECK (revision > 0),
  ADD COLUMN deleted_at timestamptz,
  ADD COLUMN last_used_at timestamptz;
UPDATE registry.credential c
  SET deleted_at = (SELECT max(destroyed_at) FROM registry.secret_version v WHERE v.credential_id = c.credential_id)
  WHERE status = 'revoked';
ALTER TABLE registry.credential DROP COLUMN status;
CREATE INDEX open_interval ON registry.credential_interval (credential_id) WHERE active_to IS NULL;
"""

# The current version has no restorable_until; the one before it has, until it is destroyed.
_SECRETS = """
ALTER TABLE registry.secret_version
  ADD COLUMN restorable_until timestamptz,
  ADD COLUMN check_result text CHECK (check_result IN ('valid', 'invalid', 'unknown')),
  ADD COLUMN check_reason text,
  ADD COLUMN checked_at timestamptz,
  ADD CONSTRAINT checked_as_a_whole CHECK (num_nonnulls(check_result, check_reason, checked_at) IN (0, 3));
CREATE UNIQUE INDEX one_current_secret ON registry.secret_version (credential_id)
  WHERE restorable_until IS NULL AND destroyed_at IS NULL;
CREATE UNIQUE INDEX one_previous_secret ON registry.secret_version (credential_id)
  WHERE restorable_until IS NOT NULL AND destroyed_at IS NULL;
"""

# What a request with an Idempotency-Key was answered. Neither the key nor the request can be had from it.
_ANSWERS = """
CREATE TABLE registry.idempotent_answer (
  request_id text PRIMARY KEY,
  fingerprint text NOT NULL,
  answer jsonb NOT NULL,
  answered_at timestamptz NOT NULL
);
CREATE INDEX answer_by_age ON registry.idempotent_answer (answered_at);
"""

_GRANTS = """
GRANT UPDATE (label, hint, fingerprint, revision, deleted_at, last_used_at) ON registry.credential TO registry_service;
GRANT UPDATE (restorable_until, check_result, check_reason, checked_at) ON registry.secret_version TO registry_service;
GRANT SELECT, INSERT, DELETE ON registry.idempotent_answer TO registry_service;
"""


def upgrade() -> None:
    for script in (_CREDENTIAL, _SECRETS, _ANSWERS, _GRANTS):
        op.execute(script)
