-- The ledger's entries as they were when speed was first measured (2026-11-24): columns, CHECKs and indexes. What a
-- worker does is compared with a plain COPY into this, so that a leaner table counts for us, and a fatter one against.
CREATE TABLE bench.entry (
  entry_id uuid PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('charge', 'reversal', 'correction')),
  revision integer NOT NULL CHECK (revision >= 0),
  adjusts uuid,
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
  source_partition_id integer,
  source_offset bigint,
  source_index integer,
  priced_model text,
  usage jsonb,
  conditions jsonb,
  evidence jsonb,
  UNIQUE (org_id, event_source, event_id, revision, kind),
  CHECK (
    (kind = 'charge')
      = (source_partition_id IS NOT NULL AND source_offset IS NOT NULL AND source_index IS NOT NULL)
  ),
  CHECK ((claim_source IS NOT DISTINCT FROM 'byok') = (claim_credential_id IS NOT NULL)),
  CHECK ((kind = 'charge') = (caused_by_seq IS NULL)),
  CHECK (list_mc = charged_mc + saved_mc),
  CHECK (
    CASE WHEN kind = 'reversal'
      THEN greatest(quantity, input_tokens, cached_input_tokens, output_tokens, list_mc, charged_mc) <= 0
      ELSE least(quantity, input_tokens, cached_input_tokens, output_tokens, list_mc, charged_mc) >= 0
    END
  ),
  CHECK ((key_source = 'byok') = (byok_scope IS NOT NULL) AND (key_source = 'byok') = (credential_id IS NOT NULL)),
  CHECK ((kind = 'charge') = (revision = 0) AND (kind = 'charge') = (adjusts IS NULL)),
  CHECK ((event_type = 'usage.token_usage.v2') = (usage IS NOT NULL))
);
CREATE INDEX ON bench.entry (org_id, occurred_at, entry_id);
CREATE INDEX ON bench.entry USING brin (recorded_at);
CREATE UNIQUE INDEX ON bench.entry (adjusts) WHERE kind = 'reversal';
