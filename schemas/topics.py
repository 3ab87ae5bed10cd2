"""Every topic with its owner and settings, in one table (docs/contract.md, section 1)."""

from __future__ import annotations

from typing import NamedTuple

MESSAGE_BYTES_MAX = 1_000_000
"""What a broker takes by default (``message.max.bytes`` is a little more). Every limit on what becomes a record follows
from it."""

_DAY_MS = 24 * 60 * 60 * 1000


class Topic(NamedTuple):
    """One Kafka topic: its settings are part of the contract."""

    name: str
    partitions: int
    key: str
    written_by: str
    config: dict[str, str]
    description: str


REGISTRY_CHANGES = Topic(
    name="byok.registry-changes",
    partitions=1,
    key="credential:<credential_id>, plan:<org_id> or rate_card:<card>",
    written_by="key registry (outbox relay)",
    config={"cleanup.policy": "compact"},
    description="Everything that can move a price, in one total order.",
)
USAGE_EVENTS = Topic(
    name="byok.usage-events",
    partitions=12,
    key="org_id",
    written_by="runners and the HTTP ingest",
    config={"cleanup.policy": "delete", "retention.ms": str(7 * _DAY_MS)},
    description="One CloudEvent per record, or a JSON array of 1 to 1,000 of them.",
)
USAGE_DEAD_LETTERS = Topic(
    name="byok.usage-dead-letters",
    partitions=3,
    key="as the original's",
    written_by="metering, at least once",
    config={"cleanup.policy": "delete", "retention.ms": str(30 * _DAY_MS)},
    description="The bytes of refused events, with the reason and where they came from in the headers.",
)

TOPICS = (REGISTRY_CHANGES, USAGE_EVENTS, USAGE_DEAD_LETTERS)

BATCH_EVENTS_MAX = 1_000
"""The most elements of one batch (docs/contract.md, section 1)."""
