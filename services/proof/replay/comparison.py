"""Compares two ledgers identity by identity. Pure: both come as streams in the order of their identities."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from schemas.dead_letters import FOR_WANT_OF_A_PRICE, Reason
from services.books.columns import AMOUNTS, ATTRIBUTION, COUNTS, IDENTITY
from services.books.entry_rows import Row
from services.proof.entries import Difference

# In the order in which the digest takes them.
SUMS = (*AMOUNTS, *COUNTS)
_KEPT = 1_000

_KNOWN_LATER = {Reason.UNSUPPORTED_TYPE, Reason.TIME_IN_FUTURE, *FOR_WANT_OF_A_PRICE}

GONE = "only in the ledger: no longer in the topic, or of another cluster"
UNPRICED = "only in the ledger: the card now in force does not list the model, and no price is guessed"
CONFLICT = "in both with different payloads: two payloads of one identity, and another one came first"
REFUSED_THEN = "only in the replay: refused then, bookable now"


class Place(NamedTuple):
    """Where a charge was read, in the partitions that are replayed."""

    partition: int
    offset: int
    element: int


class Account(NamedTuple):
    """What one ledger says of one identity."""

    identity: tuple[str, str, str]
    charges: int
    payload_hash: bytes
    sums: tuple[int, ...]
    attribution: tuple[Any, ...]
    """Of the last charge or correction."""
    place: Place | None
    """None: it was read elsewhere, or there is no charge."""


class Evidence(NamedTuple):
    """What the comparison may ask when two ledgers do not say the same."""

    in_topic: Callable[[Place], bool]
    ledger_refused: Callable[[Place], str | None]
    """Why the ledger refused the event at a place, where it did."""
    replay_refused: Callable[[Place], str | None]


def accounts(rows: Iterable[Row]) -> Iterator[Account]:
    """Rows of entries by identity and revision, each identity's as one."""
    for identity, group in groupby(rows, key=itemgetter(*IDENTITY)):
        sums = [0] * len(SUMS)
        last: Row = {}
        charges, payload_hash, place = 0, b"", None
        for row in group:
            sums = [so_far + row[name] for so_far, name in zip(sums, SUMS, strict=True)]
            if row["kind"] != "reversal":
                last = row
            if row["kind"] == "charge":
                charges += 1
                if row["partition"] is not None:
                    place = Place(row["partition"], row["source_offset"], row["source_index"])
            payload_hash = bytes(row["payload_hash"])
        attribution = tuple(last.get(name) for name in ATTRIBUTION)
        yield Account(identity, charges, payload_hash, tuple(sums), attribution, place)


class Side:
    """The digest of one ledger, over the identities that are compared."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.identities = 0
        self.sums = [0] * len(SUMS)
        self._sha256 = hashlib.sha256()

    def add(self, account: Account) -> None:
        """Take in one identity; they must come in their order."""
        self.identities += 1
        self.sums = [so_far + more for so_far, more in zip(self.sums, account.sums, strict=True)]
        said = [account.identity, account.charges, account.payload_hash.hex(), account.sums, account.attribution]
        self._sha256.update(json.dumps(said, separators=(",", ":")).encode() + b"\n")

    @property
    def digest(self) -> str:
        """In hexadecimal digits."""
        return self._sha256.hexdigest()


@dataclass
class Comparison:
    """Two ledgers held against each other."""

    ledger: Side = field(default_factory=Side)
    replay: Side = field(default_factory=Side)
    booked: int = 0
    """Identities that the ledger has entries of, compared or not."""
    not_compared: Counter[str] = field(default_factory=Counter)
    """Identities that may rightly differ, by why."""
    differences: int = 0
    first: list[Difference] = field(default_factory=list)
    """The first of them, by identity."""

    def note(self, account: Account, detail: str) -> None:
        """Take in a difference; memory holds the first ones only."""
        self.differences += 1
        if len(self.first) < _KEPT:
            self.first.append(Difference("replay", " / ".join(account.identity), detail))


def compare(
    ledger: Iterable[Account], replay: Iterable[Account], evidence: Evidence, on_identity: Callable[[int], None]
) -> Comparison:
    """Hold the ledger against the replay. ``on_identity`` hears how many identities were looked at so far."""
    result = Comparison()
    for done, (booked, again) in enumerate(_side_by_side(iter(ledger), iter(replay)), start=1):
        result.booked += booked is not None
        why = _why_not_compared(booked, again, evidence)
        if why is not None:
            result.not_compared[why] += 1
        else:
            _take_in(result, booked, again)
        on_identity(done)
    return result


def _take_in(result: Comparison, booked: Account | None, again: Account | None) -> None:
    if booked is not None:
        result.ledger.add(booked)
    if again is not None:
        result.replay.add(again)
    if booked is None and again is not None:
        result.note(again, f"it is in the topic at {_text(again.place)}, but the ledger has no entry of it")
    elif again is None and booked is not None:
        result.note(booked, f"the ledger says that it was read at {_text(booked.place)}, but a replay books none")
    elif booked is not None and again is not None and (wrong := _differing(booked, again)):
        result.note(booked, wrong)


def _side_by_side(
    ledger: Iterator[Account], replay: Iterator[Account]
) -> Iterator[tuple[Account | None, Account | None]]:
    booked, again = next(ledger, None), next(replay, None)
    while booked is not None or again is not None:
        if again is None or (booked is not None and booked.identity < again.identity):
            yield booked, None
            booked = next(ledger, None)
        elif booked is None or again.identity < booked.identity:
            yield None, again
            again = next(replay, None)
        else:
            yield booked, again
            booked, again = next(ledger, None), next(replay, None)


def _why_not_compared(booked: Account | None, again: Account | None, evidence: Evidence) -> str | None:
    """Why the two may rightly differ; None where they must be the same."""
    if again is None:
        return None if booked is None else _why_only_booked(booked, evidence)
    # First, for it is so of nearly all, and the evidence is a question to the database.
    if booked is not None and (booked.payload_hash == again.payload_hash or booked.place == again.place):
        return None
    refused = None if again.place is None else evidence.ledger_refused(again.place)
    if booked is None:
        return f"{REFUSED_THEN} ({refused})" if refused in _KNOWN_LATER else None
    # The loser's dead letter must be there on both sides, unless the topic has forgotten the ledger's winner.
    if refused not in {Reason.IDENTITY_CONFLICT, *_KNOWN_LATER}:
        return None
    if booked.place is not None and evidence.in_topic(booked.place):
        return CONFLICT if evidence.replay_refused(booked.place) == Reason.IDENTITY_CONFLICT else None
    return CONFLICT if booked.charges else None


def _why_only_booked(booked: Account, evidence: Evidence) -> str | None:
    if not booked.charges:
        return None
    if booked.place is None or not evidence.in_topic(booked.place):
        return GONE
    return UNPRICED if evidence.replay_refused(booked.place) in FOR_WANT_OF_A_PRICE else None


def _differing(booked: Account, again: Account) -> str:
    pairs: list[tuple[str, Any, Any]] = [("charges", booked.charges, again.charges)]
    pairs.append(("payload_hash", booked.payload_hash.hex(), again.payload_hash.hex()))
    pairs += zip(SUMS, booked.sums, again.sums, strict=True)
    pairs += zip(ATTRIBUTION, booked.attribution, again.attribution, strict=True)
    return "; ".join(f"{name} is {is_}, the replay makes it {must}" for name, is_, must in pairs if is_ != must)


def _text(place: Place | None) -> str:
    return "no place" if place is None else f"partition {place.partition}, offset {place.offset}, index {place.element}"
