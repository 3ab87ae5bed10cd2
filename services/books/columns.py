"""The columns of the ledger's rows, each named once, in groups by what they say. A test holds them against the tables.

What the core counts, says and charges is named there: those columns are called like its fields. What the view shows, in
its order and with its types, are the models of ``tables.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.domain.entries import Attribution, Quantities
from services.domain.rating import Amounts

ENTRY = ("entry_id", "kind", "revision", "adjusts", "registry_seq")
"""Which entry it is, and how much was known when it was priced."""
CAUSE = "caused_by_seq"
"""The change that a reversal and its correction follow from."""
IDENTITY = ("org_id", "event_source", "event_id")
"""Which event it books."""
ACT = (
    *("event_type", "occurred_at", "user_id", "team_id", "run_id", "agent_id", "workflow_id", "parent_run_id"),
    *("node", "tool", "provider", "model", "succeeded"),
)
"""What the event says, but for its counts."""
CLAIM = ("claim_source", "claim_credential_id")
"""Whose key the event says that it used."""
SERVED = ("conditions", "evidence")
"""Objects: under which conditions a request was served, and what else was said of it that prices nothing."""
EVENT = (*IDENTITY, *ACT, *CLAIM, *SERVED, "payload_hash")
"""What is the same in every entry of one event."""
COUNTS = Quantities.__struct_fields__
USAGE = "usage"
"""An object: the count of each unit, negative in a reversal."""
ATTRIBUTION = tuple(name for name in Attribution.__struct_fields__ if name != "amounts")
"""What late knowledge can change, besides the amounts."""
PRICE = Amounts.__struct_fields__
AMOUNTS = (*PRICE, "saved_mc")
"""Microcredits; what is saved follows from the others."""
SUMMED = (*COUNTS, *AMOUNTS)
"""What a reversal negates."""
BOOKED = (*ENTRY, *EVENT, *COUNTS, USAGE, *ATTRIBUTION, *PRICE)
"""All that an entry of the core says, with the hash of its payload."""
PLACE = ("source_partition_id", "source_offset", "source_index")
"""Where a charge, or a dead letter, was read."""
LETTER = {
    "source_offset": "bigint",
    "source_index": "integer",
    **dict.fromkeys(("reason", "detail", "org_id", "event_source", "event_id", "event_type"), "text"),
    **dict.fromkeys(("record_key", "payload"), "bytea"),
    "masked": "boolean",
    "whole_bytes": "bigint",
    "event": "bytea",
}
"""What is kept of a refused event, besides the partition that it was read from; with types, for it goes as arrays."""


def listed(names: Iterable[str], table: str = "") -> str:
    """The columns as SQL takes them; of a table that the statement calls ``table``: ``e.org_id, e.event_source``."""
    prefix = f"{table}." if table else ""
    return ", ".join(f"{prefix}{name}" for name in names)
