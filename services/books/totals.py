"""The totals that a transaction adds up beside its rows, so that no crash makes metrics and ledger differ."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas import metrics
from services.domain.entries import Entry
from services.domain.usage import EventType

_KNOWN_TYPES = {event_type.value for event_type in EventType}

SHOWN_AS = {
    "usage_events": metrics.USAGE_EVENTS,
    "list_mc": metrics.LIST_CREDITS,
    "charged_mc": metrics.CHARGED_CREDITS,
    "saved_mc": metrics.SAVED_CREDITS,
    "dead_letters": metrics.DEAD_LETTERS,
    "removed_dead_letters": metrics.REMOVED_DEAD_LETTERS,
    "credential_flags": metrics.CREDENTIAL_FLAGS,
    "corrections": metrics.CORRECTIONS,
    "corrected_mc": metrics.CORRECTED_CREDITS,
}
"""The totals by their names in ``ledger.metric_total``, as the ledger service shows them."""

Labels = tuple[tuple[str, str], ...]


class Total(NamedTuple):
    """One series: the metric's name in ``ledger.metric_total`` and its labels, in one order for all."""

    metric: str
    labels: Labels

    @property
    def labels_json(self) -> str:
        """The labels as the database keeps them."""
        return json.dumps(dict(self.labels))


Totals = Counter[Total]


def _total(metric: str, **labels: str | None) -> Total:
    return Total(metric, tuple((name, labels[name] or "") for name in sorted(labels)))


def events(totals: Totals, outcomes: Mapping[tuple[object, str], int]) -> None:
    """Count events by type and what they became; junk types count as ``other``."""
    for (event_type, outcome), how_many in outcomes.items():
        known = event_type if isinstance(event_type, str) and event_type in _KNOWN_TYPES else "other"
        totals[_total("usage_events", event_type=known, outcome=outcome)] += how_many


def dead_letter(totals: Totals, reason: str) -> None:
    """Count one dead letter."""
    totals[_total("dead_letters", reason=reason)] += 1


def removed_letters(totals: Totals, reason: str, how_many: int) -> None:
    """Count dead letters that were removed."""
    totals[_total("removed_dead_letters", reason=reason)] += how_many


def charges(totals: Totals, entries: Iterable[Entry]) -> None:
    """Add up the amounts and flags of new charges."""
    amounts: defaultdict[tuple[EventType, str | None, str, str | None], list[int]] = defaultdict(lambda: [0, 0])
    for entry in entries:
        event, what = entry.event, entry.attribution
        sums = amounts[event.type, event.provider, what.key_source, what.byok_scope]
        sums[0] += what.amounts.list_mc
        sums[1] += what.amounts.charged_mc
        if what.flags:
            flags(totals, what.flags)
    for (event_type, provider, key_source, byok_scope), (list_mc, charged_mc) in amounts.items():
        labels = {"event_type": event_type, "provider": provider, "key_source": key_source, "byok_scope": byok_scope}
        totals[_total("list_mc", **labels)] += list_mc
        totals[_total("charged_mc", **labels)] += charged_mc
        totals[_total("saved_mc", **labels)] += list_mc - charged_mc


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
