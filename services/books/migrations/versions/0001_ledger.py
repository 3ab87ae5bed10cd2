"""The ledger: entries and what proves them, append-only; dead letters; progress; registry log; metric totals."""

from alembic import op

revision = "0001"
down_revision = None

_TABLES = """
-- One Kafka partition of one cluster, and how far its records are booked: the truth of what was consumed.
CREATE TABLE ledger.source_partition (
  source_partition_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cluster_id text NOT NULL,
  topic text NOT NULL,
  partition int NOT NULL CHECK (partition >= 0),
  origin_offset bigint NOT NULL CHECK (origin_offset >= 0),
  next_offset bigint NOT NULL CHECK (next_offset >= origin_offset),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (cluster_id, topic, partition)
);

CREATE TABLE ledger.entry (
  entry_id uuid PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('charge', 'reversal', 'correction')),
  revision int NOT NULL CHECK (revision >= 0),
  adjusts uuid REFERENCES ledger.entry (entry_id),
  org_id text NOT NULL,
  team_id text,
  user_id text NOT NULL,
  event_source text NOT NULL,
  event_id text NOT NULL,
  event_type text NOT NULL,
  occurred_at timestamptz NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  run_id text,
  agent_id text,
  workflow_id text,
  parent_run_id text,
  node text,
  tool text,
  succeeded boolean NOT NULL,
  provider text,
  model text,
  tier text,
  quantity bigint NOT NULL,
  input_tokens bigint NOT NULL,
  cached_input_tokens bigint NOT NULL,
  output_tokens bigint NOT NULL,
  claim_source text CHECK (claim_source IN ('byok', 'platform')),
  claim_credential_id text,
  key_source text NOT NULL CHECK (key_source IN ('byok', 'platform', 'none')),
  byok_scope text CHECK (byok_scope IN ('organization', 'team', 'personal')),
  credential_id text,
  reason text NOT NULL,
  flags text[] NOT NULL,
  list_mc bigint NOT NULL,
  charged_mc bigint NOT NULL,
  saved_mc bigint NOT NULL,
  rate_card text NOT NULL,
  registry_seq bigint NOT NULL CHECK (registry_seq >= 0),
  caused_by_seq bigint,
  payload_hash bytea NOT NULL CHECK (octet_length(payload_hash) = 32),
  -- Where the charge was read. No foreign key: its check, row by row, would cost more than the insert.
  source_partition_id int,
  source_offset bigint,
  source_index int,
  UNIQUE (org_id, event_source, event_id, revision, kind),
  CONSTRAINT list_is_charged_plus_saved CHECK (list_mc = charged_mc + saved_mc),
  CONSTRAINT revision_0_is_the_charge CHECK (
    (kind = 'charge') = (revision = 0) AND (kind = 'charge') = (adjusts IS NULL)
  ),
  CONSTRAINT own_key_is_named CHECK (
    (key_source = 'byok') = (byok_scope IS NOT NULL) AND (key_source = 'byok') = (credential_id IS NOT NULL)
  ),
  CONSTRAINT claim_is_whole CHECK ((claim_source IS NOT DISTINCT FROM 'byok') = (claim_credential_id IS NOT NULL)),
  CONSTRAINT corrections_have_a_cause CHECK ((kind = 'charge') = (caused_by_seq IS NULL)),
  CONSTRAINT charges_have_a_source CHECK (
    (kind = 'charge') = (source_partition_id IS NOT NULL AND source_offset IS NOT NULL AND source_index IS NOT NULL)
  ),
  CONSTRAINT only_reversals_are_negative CHECK (
    CASE WHEN kind = 'reversal'
      THEN greatest(quantity, input_tokens, cached_input_tokens, output_tokens, list_mc, charged_mc) <= 0
      ELSE least(quantity, input_tokens, cached_input_tokens, output_tokens, list_mc, charged_mc) >= 0
    END
  )
);
CREATE INDEX entry_by_time ON ledger.entry (org_id, occurred_at, entry_id);
-- Rows lie in the order of their recording, so a few bytes for each stretch of them find what is new.
CREATE INDEX entry_by_recording ON ledger.entry USING brin (recorded_at);
-- An entry is taken back at most once; what no reversal names is current.
CREATE UNIQUE INDEX entry_reversed_once ON ledger.entry (adjusts) WHERE kind = 'reversal';

-- Which offsets a batch covered, and what became of the events in them.
CREATE TABLE ledger.covered_range (
  source_partition_id int NOT NULL REFERENCES ledger.source_partition,
  from_offset bigint NOT NULL CHECK (from_offset >= 0),
  to_offset bigint NOT NULL CHECK (to_offset > from_offset),
  events bigint NOT NULL,
  recorded bigint NOT NULL CHECK (recorded >= 0),
  duplicates bigint NOT NULL CHECK (duplicates >= 0),
  dead_letters bigint NOT NULL CHECK (dead_letters >= 0),
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source_partition_id, from_offset),
  CONSTRAINT every_event_became_something CHECK (events = recorded + duplicates + dead_letters)
);

CREATE TABLE ledger.dead_letter (
  dead_letter_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source_partition_id int NOT NULL REFERENCES ledger.source_partition,
  source_offset bigint NOT NULL,
  source_index int NOT NULL,
  reason text NOT NULL,
  detail text NOT NULL,
  failed_at timestamptz NOT NULL DEFAULT now(),
  org_id text,
  event_source text,
  event_id text,
  event_type text,
  record_key bytea,
  payload bytea NOT NULL,
  masked boolean NOT NULL,
  relayed_at timestamptz,
  UNIQUE (source_partition_id, source_offset, source_index)
);
CREATE INDEX dead_letter_to_relay ON ledger.dead_letter (dead_letter_id) WHERE relayed_at IS NULL;
CREATE INDEX dead_letter_by_time ON ledger.dead_letter (failed_at);

-- Every registry change that was read, each in the bytes that were read, before it was used.
CREATE TABLE ledger.registry_change (
  seq bigint PRIMARY KEY CHECK (seq > 0),
  key text NOT NULL,
  payload bytea NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX registry_change_by_key ON ledger.registry_change (key, seq);

-- What a worker must know before it may book (docs/design.md, decision 6), and how far late changes are worked off.
CREATE TABLE ledger.fence (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  seq bigint NOT NULL,
  rerated_seq bigint NOT NULL CHECK (rerated_seq <= seq)
);
INSERT INTO ledger.fence (seq, rerated_seq) VALUES (0, 0);

-- Totals advanced in the transaction of the rows they count. Shards keep workers out of each other's way.
CREATE TABLE ledger.metric_total (
  metric text NOT NULL,
  labels jsonb NOT NULL,
  shard int NOT NULL,
  value bigint NOT NULL,
  PRIMARY KEY (metric, labels, shard)
);
"""

_APPEND_ONLY = """
CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'ledger.% is append-only: % is refused; correct by new entries', TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.entry
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.covered_range
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.registry_change
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF dead_letter_id, source_partition_id, source_offset,
    source_index, reason, detail, failed_at, org_id, event_source, event_id, event_type, record_key, payload, masked
  ON ledger.dead_letter FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
"""

_VIEWS = """
CREATE VIEW ledger.entries AS SELECT
  entry_id, kind, revision, adjusts, org_id, team_id, user_id, event_source, event_id, event_type, occurred_at,
  recorded_at, run_id, agent_id, workflow_id, node, tool, provider, model, tier, quantity, input_tokens,
  cached_input_tokens, output_tokens, key_source, byok_scope, credential_id, reason, flags, list_mc, charged_mc,
  saved_mc, rate_card, registry_seq
FROM ledger.entry;
COMMENT ON VIEW ledger.entries IS
  'The credit ledger. Amounts are microcredits (10^-6 credit). Sums over all kinds are right, grouped by anything.';

CREATE VIEW ledger.dead_letters AS SELECT
  dead_letter_id, reason, detail, failed_at, org_id, event_source, event_id, event_type, p.topic AS source_topic,
  p.partition AS source_partition, source_offset, source_index, p.cluster_id AS source_cluster, payload, masked,
  relayed_at
FROM ledger.dead_letter JOIN ledger.source_partition p USING (source_partition_id);
"""

_ROLES = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ledger_reader') THEN CREATE ROLE ledger_reader NOLOGIN; END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ledger_service') THEN CREATE ROLE ledger_service NOLOGIN; END IF;
END $$;
GRANT USAGE ON SCHEMA ledger TO ledger_reader, ledger_service;
GRANT SELECT ON ledger.entries, ledger.dead_letters TO ledger_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO ledger_service;
GRANT INSERT ON ledger.entry, ledger.covered_range, ledger.dead_letter, ledger.registry_change TO ledger_service;
GRANT INSERT, UPDATE ON ledger.source_partition, ledger.metric_total TO ledger_service;
GRANT UPDATE ON ledger.fence TO ledger_service;
GRANT UPDATE (relayed_at) ON ledger.dead_letter TO ledger_service;
"""


def upgrade() -> None:
    for script in (_TABLES, _APPEND_ONLY, _VIEWS, _ROLES):
        op.execute(script)
