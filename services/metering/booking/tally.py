"""What became of every event of a batch: recorded, a duplicate, or a dead letter. Counted in groups. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from uuid import UUID

from schemas.dead_letters import Reason
from services.books import totals as count
from services.books.totals import Totals
from services.messages.usage_events import Rejection
from services.metering.booking.dead_letters import DeadLetter, dead_letter
from services.metering.booking.pricing import PricedElement
from services.metering.dead_letters.share import Count, Origin

# In the order of the columns of a covered range.
_OUTCOMES = ("recorded", "duplicate", "dead_letter")


class Tally:
    """The counts of one batch."""

    def __init__(
        self,
        elements: Iterable[PricedElement],
        firsts: Mapping[UUID, PricedElement],
        letters: Iterable[DeadLetter],
        booked_before: Mapping[UUID, bytes] = MappingProxyType({}),
    ) -> None:
        """``firsts``: the first element of each entry id; ``letters``: what was refused before it came to an entry;
        ``booked_before``: the payload hashes of those of the ids that are older than the batch."""
        self.totals: Totals = Totals()
        self.dead_letters: list[DeadLetter] = list(letters)
        self.recorded: list[PricedElement] = []
        """Those that became new rows."""
        self.duplicates: list[PricedElement] = []
        self._by_partition: defaultdict[int, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_OUTCOMES, 0))
        self._types: Counter[tuple[object, str]] = Counter()
        self._origins: Counter[Origin] = Counter()
        self._judge(elements, firsts, booked_before)
        self._count_groups(self.recorded, "recorded")
        self._count_groups(self.duplicates, "duplicate")
        for letter in self.dead_letters:
            count.dead_letter(self.totals, letter.reason)
            self._count(letter.partition, letter.event_type, "dead_letter", 1)
        count.events(self.totals, self._types)
        count.charges(self.totals, [priced.entry for priced in self.recorded if priced.entry])

    def of(self, partition: int) -> tuple[int, ...]:
        """How many events of the partition were recorded, duplicates and dead letters."""
        return tuple(self._by_partition[partition].values())

    @property
    def by_origin(self) -> dict[Origin, Count]:
        """How many events of each organization and source there were, and how many of them are dead letters."""
        refused = Counter(letter.origin for letter in self.dead_letters)
        events = self._origins + refused
        return {origin: Count(events[origin], refused[origin]) for origin in events}

    def _judge(
        self,
        elements: Iterable[PricedElement],
        firsts: Mapping[UUID, PricedElement],
        booked_before: Mapping[UUID, bytes],
    ) -> None:
        for priced in elements:
            if priced.entry is None:
                continue
            entry_id, digest = priced.entry.entry_id, priced.element.payload_hash
            first = firsts[entry_id]
            if first is priced and entry_id not in booked_before:
                self.recorded.append(priced)
            elif booked_before.get(entry_id, first.element.payload_hash) == digest:
                self.duplicates.append(priced)
            else:
                detail = f"id: is already booked with another payload, as entry {entry_id}"
                self.dead_letters.append(dead_letter(priced.element, Rejection.of(Reason.IDENTITY_CONFLICT, detail)))

    def _count_groups(self, elements: Iterable[PricedElement], outcome: str) -> None:
        events = [(priced.element.record.partition, priced.entry.event) for priced in elements if priced.entry]
        groups = Counter([(partition, event.type, event.org_id, event.source) for partition, event in events])
        for (partition, event_type, org_id, source), how_many in groups.items():
            self._count(partition, event_type.value, outcome, how_many)
            self._origins[Origin(org_id, source)] += how_many

    def _count(self, partition: int, event_type: object, outcome: str, how_many: int) -> None:
        self._by_partition[partition][outcome] += how_many
        self._types[event_type, outcome] += how_many
