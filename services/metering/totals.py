"""The totals that a transaction adds up beside its rows, so that no crash makes metrics and ledger differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from services.domain.entries import Entry
from services.domain.usage import EventType

_KNOWN_TYPES = {event_type.value for event_type in EventType}


class Total(NamedTuple):
    """One series: the metric's name in ``ledger.metric_total`` and its labels as canonical JSON."""

    metric: str
    labels: str


Totals = Counter[Total]


def _total(metric: str, **labels: str | None) -> Total:
    return Total(metric, json.dumps({name: value or "" for name, value in labels.items()}, sort_keys=True))


def event_outcome(totals: Totals, event_type: object, outcome: str) -> None:
    """Count one event that became ``recorded``, ``duplicate`` or ``dead_letter``; junk types count as ``other``."""
    known = event_type if isinstance(event_type, str) and event_type in _KNOWN_TYPES else "other"
    totals[_total("usage_events", event_type=known, outcome=outcome)] += 1


def dead_letter(totals: Totals, reason: str) -> None:
    """Count one dead letter."""
    totals[_total("dead_letters", reason=reason)] += 1


def charges(totals: Totals, entries: Iterable[Entry]) -> None:
    """Add up the amounts and flags of new charges."""
    for entry in entries:
        event, what = entry.event, entry.attribution
        labels = {
            "event_type": event.type.value,
            "provider": event.provider,
            "key_source": what.key_source,
            "byok_scope": what.byok_scope,
        }
        totals[_total("list_mc", **labels)] += what.amounts.list_mc
        totals[_total("charged_mc", **labels)] += what.amounts.charged_mc
        totals[_total("saved_mc", **labels)] += what.amounts.saved_mc
        flags(totals, what.flags)


def flags(totals: Totals, names: Iterable[str]) -> None:
    """Count what an operator may want to look into."""
    for name in names:
        totals[_total("credential_flags", flag=name)] += 1


def correction(totals: Totals, reason: str, before: Entry, after: Entry) -> None:
    """Count one correction, the credits it moved and in which direction, and the flags that it brought up."""
    totals[_total("corrections", reason=reason)] += 1
    moved = after.attribution.amounts.charged_mc - before.attribution.amounts.charged_mc
    if moved:
        direction = "charge" if moved > 0 else "refund"
        totals[_total("corrected_mc", reason=reason, direction=direction)] += abs(moved)
    flags(totals, set(after.attribution.flags) - set(before.attribution.flags))
