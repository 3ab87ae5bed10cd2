"""What becomes of a batch, decided from the answer alone (docs/how-to/usage-over-http.md). No I/O and no clock."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

BATCH_EVENTS_MAX = 1_000
BATCH_BYTES_MAX = 900_000

QUOTA = "dead_letter_quota"
RESENT_CODES = ("unpriced_model", "unpriced_unit", "unpriced_condition", "no_rate_card", "organization_forbidden")
"""Why an event is refused today and may be taken another day as it is."""

_QUOTA_SECONDS = 60.0
_RETRY_SECONDS_MAX = 3600.0
# Of these the events are innocent: the token, the address, or something between us and the ledger is wrong.
_NOT_THE_EVENTS = frozenset({401, 402, 404, 405, 407, 408, 415, 421, 425, 426, 429, 431, 451})
_DETAIL_MAX = 200


class Waiting(NamedTuple):
    """An event that the ledger has not acknowledged."""

    row: int
    body: bytes


class SetAside(NamedTuple):
    """An event that the ledger refused."""

    row: int
    code: str
    detail: str


class Answer(NamedTuple):
    """An answer over HTTP."""

    status: int
    body: bytes
    retry_after: str | None = None


class Settle(NamedTuple):
    """These are done with, and those wait for a while; what is in neither is sent again at once."""

    acknowledged: Sequence[int]
    rejected: Sequence[SetAside] = ()
    held: Sequence[int] = ()
    held_seconds: float = _QUOTA_SECONDS


class Split(NamedTuple):
    """One of them is at fault, and the answer does not say which: each half is sent by itself."""


class Wait(NamedTuple):
    """Nothing is known to have been taken: all of it is sent again later."""

    trouble: str
    seconds: float = 0.0
    """At least so long."""


Verdict = Settle | Split | Wait


def request_body(batch: Sequence[Waiting]) -> bytes:
    """A batch as it is sent: the bytes of each event as they were recorded."""
    return b"[" + b",".join(each.body for each in batch) + b"]"


def verdict(answer: Answer, batch: Sequence[Waiting]) -> Verdict:
    """What the ledger's answer to the batch means.

    What is no answer of the ledger's (a proxy's 200, a count that is not ours) acknowledges nothing: a resend costs
    nothing, for an id counts once, and an event that is forgotten is lost.
    """
    told = _document(answer.body)
    rows = [each.row for each in batch]
    if answer.status == 202:
        counted = told.get("accepted") == len(batch)
        return Settle(rows) if counted else Wait(f"202 for {told.get('accepted')!r} of {len(batch)} events")
    if answer.status == 207:
        return _partly(told, rows)
    if answer.status == 413 and len(batch) > 1:
        return Split()
    code = str(told.get("code", ""))
    if 400 <= answer.status < 500 and answer.status not in _NOT_THE_EVENTS and code:
        if answer.status == 403 and code != "organization_forbidden":
            return Wait(_said(answer.status, told), _seconds(answer.retry_after))
        return _refused(told, code, rows)
    return Wait(_said(answer.status, told), _seconds(answer.retry_after))


def _partly(told: Mapping[str, Any], rows: Sequence[int]) -> Verdict:
    faults = _faults(told, len(rows))
    if told.get("accepted") != len(rows) - len(faults) or told.get("refused") != len(faults):
        return Wait("207 whose counts are not those of the batch")
    refused, held = _parted(faults, rows)
    named = {rows[index] for index in faults}
    return Settle([row for row in rows if row not in named], refused, held)


def _refused(told: Mapping[str, Any], code: str, rows: Sequence[int]) -> Verdict:
    faults = _faults(told, len(rows))
    if not faults and len(rows) > 1:
        return Split()
    refused, held = _parted(faults or {0: (code, str(told.get("detail", "")))}, rows)
    # A first hundred are named; the rest is sent again without them.
    return Settle([], refused, held)


def _faults(told: Mapping[str, Any], events: int) -> dict[int, tuple[str, str]]:
    """Code and detail of each event that is named, by its place."""
    faults: dict[int, tuple[str, str]] = {}
    for each in _mappings(told.get("errors")):
        index = each.get("index")
        if isinstance(index, int) and 0 <= index < events:
            said = ": ".join(filter(None, (str(each.get("field") or ""), str(each.get("detail") or ""))))
            faults.setdefault(index, (str(each.get("code", "")) or "refused", said))
    return faults


def _parted(faults: Mapping[int, tuple[str, str]], rows: Sequence[int]) -> tuple[list[SetAside], list[int]]:
    """What is set aside, and what only comes too early."""
    refused = [SetAside(rows[index], code, said) for index, (code, said) in faults.items() if code != QUOTA]
    return refused, [rows[index] for index, (code, _) in faults.items() if code == QUOTA]


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    return (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())


def _document(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _said(status: int, told: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (str(status), str(told.get("code", "")), str(told.get("detail", "")))))[:_DETAIL_MAX]


def _seconds(retry_after: str | None) -> float:
    """Seconds alone: of a date nobody knows by which clock it is."""
    if retry_after is None or not retry_after.strip().isdigit():
        return 0.0
    return min(float(retry_after), _RETRY_SECONDS_MAX)


def delays(first: float = 0.5, longest: float = 60.0) -> Iterator[float]:
    """Seconds to wait before each next try, without end: doubling, with jitter, so that not all come back at once."""
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter needs no secret
        delay = min(delay * 2, longest)
