"""The audit log: who did what with whose key, append-only, each row chained to the one before it by its hash."""

from alembic import op

revision = "0002"
down_revision = "0001"

_TABLES = """
CREATE TABLE registry.audit (
  seq bigint PRIMARY KEY CHECK (seq > 0),
  occurred_at timestamptz NOT NULL UNIQUE,
  -- Who, from where, and what they say of it.
  actor text NOT NULL,
  actor_org text NOT NULL,
  client_address text,
  request_id text,
  reason text,
  -- What, and how it ended. Refusals that were left out, because there were too many, count in the next one.
  action text NOT NULL,
  outcome text NOT NULL CHECK (outcome IN ('done', 'refused')),
  code text,
  omitted int NOT NULL DEFAULT 0 CHECK (omitted >= 0),
  -- With what.
  org_id text,
  credential_id text,
  scope_type text,
  scope_id text,
  provider text,
  hint text,
  detail text,
  prev_hash bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
  hash bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
  CONSTRAINT refused_for_a_reason CHECK ((outcome = 'refused') = (code IS NOT NULL))
);
CREATE INDEX audit_by_org ON registry.audit (org_id, seq);
CREATE INDEX audit_by_credential ON registry.audit (credential_id, seq) WHERE credential_id IS NOT NULL;
CREATE INDEX audit_by_actor ON registry.audit (actor, seq);

-- The end of the chain. Whoever writes takes it until the commit, so the order of seq is the order of commits.
CREATE TABLE registry.audit_head (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  last_seq bigint NOT NULL,
  last_at timestamptz NOT NULL,
  last_hash bytea NOT NULL
);
INSERT INTO registry.audit_head (last_seq, last_at, last_hash)
  VALUES (0, '2000-01-01T00:00:00Z', decode(repeat('00', 32), 'hex'));
"""

# The database chains the rows, so that the service can only append: it may neither choose a hash nor move the head.
# services/key_registry/audit/chain.py derives the same hash on its own; what is hashed never changes.
_CHAIN = """
CREATE FUNCTION registry.audit_field(value text) RETURNS text LANGUAGE sql IMMUTABLE AS
  $$ SELECT CASE WHEN value IS NULL THEN '-,' ELSE octet_length(value) || ':' || value || ',' END $$;

CREATE FUNCTION registry.chain_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  head registry.audit_head;
BEGIN
  SELECT * INTO STRICT head FROM registry.audit_head FOR UPDATE;
  NEW.seq := head.last_seq + 1;
  NEW.occurred_at := greatest(clock_timestamp(), head.last_at + interval '1 microsecond');
  NEW.prev_hash := head.last_hash;
  NEW.hash := sha256(convert_to(
    'byok audit v1' || registry.audit_field(encode(NEW.prev_hash, 'hex')) || registry.audit_field(NEW.seq::text)
    || registry.audit_field(to_char(NEW.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    || registry.audit_field(NEW.actor) || registry.audit_field(NEW.actor_org)
    || registry.audit_field(NEW.client_address) || registry.audit_field(NEW.request_id)
    || registry.audit_field(NEW.reason) || registry.audit_field(NEW.action) || registry.audit_field(NEW.outcome)
    || registry.audit_field(NEW.code) || registry.audit_field(NEW.omitted::text)
    || registry.audit_field(NEW.org_id) || registry.audit_field(NEW.credential_id)
    || registry.audit_field(NEW.scope_type) || registry.audit_field(NEW.scope_id)
    || registry.audit_field(NEW.provider) || registry.audit_field(NEW.hint) || registry.audit_field(NEW.detail),
    'UTF8'));
  UPDATE registry.audit_head SET last_seq = NEW.seq, last_at = NEW.occurred_at, last_hash = NEW.hash;
  RETURN NEW;
END $$;
CREATE TRIGGER chained BEFORE INSERT ON registry.audit FOR EACH ROW EXECUTE FUNCTION registry.chain_audit();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON registry.audit
  FOR EACH STATEMENT EXECUTE FUNCTION registry.refuse_change();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON registry.audit_head
  FOR EACH STATEMENT EXECUTE FUNCTION registry.refuse_change();
"""

_ROLES = """
GRANT SELECT ON registry.audit, registry.audit_head TO registry_service;
GRANT INSERT (actor, actor_org, client_address, request_id, reason, action, outcome, code, omitted,
  org_id, credential_id, scope_type, scope_id, provider, hint, detail) ON registry.audit TO registry_service;
"""


def upgrade() -> None:
    for script in (_TABLES, _CHAIN, _ROLES):
        op.execute(script)
