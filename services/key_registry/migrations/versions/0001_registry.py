"""The key registry: credentials and their secrets, plans, rate cards, and the log of everything that moves a price."""

from alembic import op

revision = "0001"
down_revision = None

_TABLES = """
-- The one log, kept whole and for ever: what is on byok.registry-changes can be sent again, byte for byte.
CREATE TABLE registry.log (
  seq bigint PRIMARY KEY CHECK (seq > 0),
  key text NOT NULL,
  payload bytea NOT NULL,
  changed_at timestamptz NOT NULL UNIQUE
);

-- Its end. Whoever changes anything takes this row first, so commit order is the order of seq, without gaps.
CREATE TABLE registry.log_head (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  last_seq bigint NOT NULL,
  last_at timestamptz NOT NULL
);
INSERT INTO registry.log_head (last_seq, last_at) VALUES (0, '2000-01-01T00:00:00Z');

-- How much of it which cluster has.
CREATE TABLE registry.relay_cursor (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  cluster_id text,
  sent_seq bigint NOT NULL CHECK (sent_seq >= 0),
  reset_at timestamptz NOT NULL
);
INSERT INTO registry.relay_cursor (cluster_id, sent_seq, reset_at) VALUES (NULL, 0, clock_timestamp());

-- One place for a key: of a scope and a provider. A slot never holds two active keys at once.
CREATE TABLE registry.slot (
  slot_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  org_id text NOT NULL,
  scope_type text NOT NULL CHECK (scope_type IN ('organization', 'team', 'personal')),
  scope_id text NOT NULL,
  provider text NOT NULL,
  UNIQUE (org_id, scope_type, scope_id, provider),
  UNIQUE (slot_id, org_id, scope_type, scope_id, provider),
  CONSTRAINT organization_is_its_own_scope CHECK (scope_type <> 'organization' OR scope_id = org_id)
);

CREATE TABLE registry.credential (
  credential_id text PRIMARY KEY,
  created_seq bigint NOT NULL UNIQUE REFERENCES registry.log,
  slot_id bigint NOT NULL,
  org_id text NOT NULL,
  scope_type text NOT NULL,
  scope_id text NOT NULL,
  provider text NOT NULL,
  label text,
  hint text NOT NULL,
  fingerprint text NOT NULL,
  created_by text NOT NULL,
  created_at timestamptz NOT NULL,
  status text NOT NULL CHECK (status IN ('active', 'revoked')),
  UNIQUE (credential_id, slot_id),
  FOREIGN KEY (slot_id, org_id, scope_type, scope_id, provider)
    REFERENCES registry.slot (slot_id, org_id, scope_type, scope_id, provider)
);
CREATE INDEX credential_by_org ON registry.credential (org_id, created_seq);
CREATE INDEX credential_by_scope ON registry.credential (org_id, provider, scope_type, scope_id);

CREATE TABLE registry.credential_interval (
  interval_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  credential_id text NOT NULL,
  slot_id bigint NOT NULL,
  active_from timestamptz NOT NULL,
  active_to timestamptz CHECK (active_to >= active_from),
  FOREIGN KEY (credential_id, slot_id) REFERENCES registry.credential (credential_id, slot_id),
  -- A range of one number stands for equality, which GiST knows for plain numbers only with an extension.
  CONSTRAINT one_active_key_in_a_slot EXCLUDE USING gist (
    int8range(slot_id, slot_id, '[]') WITH &&, tstzrange(active_from, active_to) WITH &&
  )
);
CREATE INDEX interval_by_credential ON registry.credential_interval (credential_id);

-- Encrypted keys. A destroyed one keeps its row and loses everything from which the key could be had.
CREATE TABLE registry.secret_version (
  credential_id text NOT NULL REFERENCES registry.credential,
  version int NOT NULL CHECK (version > 0),
  format_version smallint NOT NULL CHECK (format_version = 1),
  kek_id text NOT NULL,
  wrapped_key bytea CHECK (octet_length(wrapped_key) = 48),
  wrap_nonce bytea CHECK (octet_length(wrap_nonce) = 12),
  ciphertext bytea CHECK (octet_length(ciphertext) > 16),
  nonce bytea CHECK (octet_length(nonce) = 12),
  created_at timestamptz NOT NULL,
  destroyed_at timestamptz,
  PRIMARY KEY (credential_id, version),
  CONSTRAINT whole_or_destroyed CHECK (
    num_nonnulls(wrapped_key, wrap_nonce, ciphertext, nonce) = CASE WHEN destroyed_at IS NULL THEN 4 ELSE 0 END
  )
);

-- The plans of an organization, all of them, as they stand now; how they stood before is in the log.
CREATE TABLE registry.plan_history (
  org_id text PRIMARY KEY,
  periods jsonb NOT NULL,
  seq bigint NOT NULL REFERENCES registry.log
);

CREATE TABLE registry.rate_card (
  card text PRIMARY KEY,
  effective_from timestamptz NOT NULL,
  body jsonb NOT NULL,
  seq bigint NOT NULL REFERENCES registry.log
);
"""

_APPEND_ONLY = """
CREATE FUNCTION registry.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'registry.% is append-only: % is refused', TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON registry.log
  FOR EACH STATEMENT EXECUTE FUNCTION registry.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON registry.rate_card
  FOR EACH STATEMENT EXECUTE FUNCTION registry.refuse_change();
"""

_ROLES = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'registry_service') THEN
    CREATE ROLE registry_service NOLOGIN;
  END IF;
END $$;
GRANT USAGE ON SCHEMA registry TO registry_service;
GRANT SELECT ON ALL TABLES IN SCHEMA registry TO registry_service;
GRANT INSERT ON registry.log, registry.slot, registry.credential, registry.credential_interval,
  registry.secret_version, registry.plan_history, registry.rate_card TO registry_service;
GRANT UPDATE (last_seq, last_at) ON registry.log_head TO registry_service;
GRANT UPDATE (cluster_id, sent_seq, reset_at) ON registry.relay_cursor TO registry_service;
GRANT UPDATE (label, status) ON registry.credential TO registry_service;
GRANT UPDATE (active_to) ON registry.credential_interval TO registry_service;
GRANT UPDATE (kek_id, wrapped_key, wrap_nonce, ciphertext, nonce, destroyed_at)
  ON registry.secret_version TO registry_service;
GRANT UPDATE (periods, seq) ON registry.plan_history TO registry_service;
"""


def upgrade() -> None:
    for script in (_TABLES, _APPEND_ONLY, _ROLES):
        op.execute(script)
