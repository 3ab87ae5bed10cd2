"""Derives entries again from their stored evidence with the pure core (invariant I9). No I/O: it is given rows.

Nothing here knows how entries are booked: no batches, no fence, no re-rater. Four questions are asked of the rows of
``ledger.entry``: does each entry say what the registry log up to its ``registry_seq`` makes of its event; does each
revision take back the one before it, exactly; is the last word on every event the one with full knowledge; and has each
entry the id that is derived from what it is. By that id alone the database knows that it is booked already (I2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from services.books import columns
from services.books.entry_rows import Row, attribution_columns, event_of
from services.domain.directory import Change, Directory
from services.domain.entries import EntryKind, attribution, entry_id, quantities_of
from services.domain.model_prices import UnpricedError
from services.domain.rating import Rating, rate
from services.domain.usage import Identity, UsageEvent, payload_hash

COLUMNS = (*columns.BOOKED, "saved_mc", columns.CAUSE)
"""What has to be read of every row, besides ``is_current``: no reversal names it."""


class Difference(NamedTuple):
    """One thing that is not as it must be."""

    check: str
    """Which question brought it up: id, rating, chain, convergence, offsets, counts or totals."""
    place: str
    """Which entry, partition or total."""
    detail: str


class Ratings:
    """All but the second question. Rows must come in the order of ``registry_seq``: the log is folded once."""

    def __init__(self, changes: Iterable[tuple[int, Change]], full: Directory, rerated_seq: int) -> None:
        """``changes`` is the registry log in its order; ``full`` is all of it up to ``rerated_seq``."""
        self.checked = 0
        self.unpriced = 0
        """Entries that stand although the card in force no longer lists their model: no price is guessed."""
        self._changes = iter(changes)
        self._next = next(self._changes, None)
        self._directory = Directory()
        self._full = full
        self._rerated_seq = rerated_seq

    def check(self, rows: Iterable[Row]) -> Iterator[Difference]:
        """What is wrong with the rows, as they come."""
        for row in rows:
            self.checked += 1
            yield from _check_id(row)
            if row["kind"] != EntryKind.REVERSAL:
                yield from self._check(row)

    def _check(self, row: Row) -> Iterator[Difference]:
        self._advance(row["registry_seq"])
        if self._directory.seq != row["registry_seq"]:
            detail = f"registry_seq is {row['registry_seq']}, but the log holds no change of that number"
            yield Difference("rating", _place(row), detail)
        try:
            event = event_of(row)
        except ValueError:
            yield Difference(
                "rating", _place(row), f"event_type is {row['event_type']!r}, which is none that is metered"
            )
            return
        try:
            expected = _expected(row, event, rate(event, self._directory))
        except UnpricedError as error:
            yield Difference("rating", _place(row), f"it has no price: {error}")
            return
        if wrong := _differing(row, expected):
            yield Difference("rating", _place(row), wrong)
        if row["is_current"] and row["registry_seq"] < self._rerated_seq:
            yield from self._check_converged(row, event)

    def _check_converged(self, row: Row, event: UsageEvent) -> Iterator[Difference]:
        try:
            expected = attribution_columns(attribution(rate(event, self._full)))
        except UnpricedError:
            self.unpriced += 1
            return
        if wrong := _differing(row, expected):
            yield Difference("convergence", _place(row), f"with all changes up to {self._rerated_seq}: {wrong}")

    def _advance(self, seq: int) -> None:
        while self._next is not None and self._next[0] <= seq:
            self._directory.apply(*self._next)
            self._next = next(self._changes, None)


def _check_id(row: Row) -> Iterator[Difference]:
    if row["entry_id"] != (derived := entry_id(_identity(row), row["revision"], EntryKind(row["kind"]))):
        yield Difference("id", _place(row), f"an entry of this event, revision and kind has the id {derived}")


def check_chain(rows: Sequence[Row]) -> Iterator[Difference]:
    """The second question: all rows of one identity, of which there are more than the one charge."""
    place = _identity_place(rows[0])
    found = Counter((row["revision"], row["kind"]) for row in rows)
    by_key = {(row["revision"], EntryKind(row["kind"])): row for row in rows}
    last = max(row["revision"] for row in rows)
    wanted = [(0, EntryKind.CHARGE)]
    wanted += [(n, kind) for n in range(1, last + 1) for kind in (EntryKind.REVERSAL, EntryKind.CORRECTION)]
    for key, count in found.items():
        if key not in wanted:
            yield Difference("chain", place, f"revision {key[0]} must not have a {key[1]}")
        elif count > 1:
            yield Difference("chain", place, f"revision {key[0]} has its {key[1]} {count} times")
    for revision, kind in wanted:
        if (revision, kind) not in by_key:
            yield Difference("chain", place, f"revision {revision} has no {kind.value}")
    charge = by_key.get((0, EntryKind.CHARGE))
    for revision in range(1, last + 1):
        before = by_key.get((revision - 1, EntryKind.CORRECTION)) if revision > 1 else charge
        reversal = by_key.get((revision, EntryKind.REVERSAL))
        correction = by_key.get((revision, EntryKind.CORRECTION))
        if reversal is not None and before is not None:
            yield from _check_reversal(reversal, before)
        if correction is not None and charge is not None:
            yield from _check_correction(correction, charge, reversal)


def _check_reversal(reversal: Row, before: Row) -> Iterator[Difference]:
    expected = {name: before[name] for name in (*columns.EVENT, *columns.ATTRIBUTION)}
    expected |= {name: -before[name] for name in columns.SUMMED}
    expected[columns.USAGE] = _negated(before[columns.USAGE])
    expected["adjusts"] = before["entry_id"]
    if wrong := _differing(reversal, expected):
        yield Difference("chain", _place(reversal), f"it does not take back entry {before['entry_id']}: {wrong}")
    if reversal["registry_seq"] <= before["registry_seq"]:
        detail = f"registry_seq is {reversal['registry_seq']}, no later than the {before['registry_seq']} it corrects"
        yield Difference("chain", _place(reversal), detail)


def _check_correction(correction: Row, charge: Row, reversal: Row | None) -> Iterator[Difference]:
    expected = {name: charge[name] for name in (*columns.EVENT, columns.USAGE)} | {"adjusts": charge["entry_id"]}
    if reversal is not None:
        expected |= {name: reversal[name] for name in ("registry_seq", columns.CAUSE)}
    if wrong := _differing(correction, expected):
        yield Difference("chain", _place(correction), wrong)


def _negated(usage: Mapping[str, int] | None) -> dict[str, int] | None:
    return None if usage is None else {unit: -count for unit, count in usage.items()}


def _expected(row: Row, event: UsageEvent, rating: Rating) -> dict[str, Any]:
    """What a charge or a correction of ``event`` must say."""
    revision = row["revision"]
    is_charge = row["kind"] == EntryKind.CHARGE
    return {
        "adjusts": None if is_charge else entry_id(event.identity, 0, EntryKind.CHARGE),
        "revision": 0 if is_charge else max(1, revision),
        "payload_hash": payload_hash(event),
        **quantities_of(event)._asdict(),
        **attribution_columns(attribution(rating)),
    }


def _differing(row: Row, expected: Mapping[str, Any]) -> str:
    """The columns that are not as expected, with both values; empty where all are."""
    wrong = [name for name, value in expected.items() if row[name] != value]
    return "; ".join(f"{name} is {_text(row[name])}, must be {_text(expected[name])}" for name in wrong)


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _identity(row: Row) -> Identity:
    return Identity(*(row[name] for name in columns.IDENTITY))


def _place(row: Row) -> str:
    return f"{row['kind']} {row['entry_id']} of {_identity_place(row)}"


def _identity_place(row: Row) -> str:
    return " / ".join(_identity(row))
