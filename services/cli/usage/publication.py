"""The way of every row: read, made an event, checked, waited for, sent; or refused, without harm to its neighbours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple, Protocol

import orjson

from services.cli.usage.mapping import EventBuilder
from services.cli.usage.moved import Guard, MovedError
from services.cli.usage.pacing import Pacer
from services.cli.usage.rejected_rows import RejectedRows
from services.cli.usage.sources import Row, Unreadable
from services.domain.usage import UsageEvent
from services.messages.usage_events import RejectedError, known_fields, read_event, require_not_ahead

_LINGER_SECONDS = 0.1
_GUARDED_AT_ONCE = 500


class Sender(Protocol):
    """Where checked events go; BatchSender, or nowhere in a dry run."""

    def add(self, org_id: str, event: bytes, line: int = 0) -> None:
        """Take in one event (JSON), from a line of the file."""

    def flush(self) -> None:
        """Send what waits."""

    def finish(self) -> None:
        """Send what waits, and wait for every acknowledgement."""

    def waiting_seconds(self) -> float:
        """How long the oldest unsent event has been waiting."""
        ...


Check = Callable[[UsageEvent, Row], None]
"""Raises RejectedError for an event that is not to be sent."""


class _Prepared(NamedTuple):
    """An event that can be read, with the line that it is from."""

    line: int
    raw: dict[str, Any]
    event: UsageEvent


class Publication:
    """One run over a file. Its counters are right at any moment, also after a failure."""

    def __init__(
        self,
        builder: EventBuilder,
        rejected: RejectedRows,
        *,
        skip_empty: bool = False,
        guard: Guard | None = None,
        checks: Sequence[Check] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``guard`` looks at events in the order of the file, some at a time, before any of them is sent; ``checks`` at
        each one, and raise RejectedError. ``skip_empty`` passes over rows that count nothing."""
        self._builder = builder
        self._rejected = rejected
        self._skip_empty = skip_empty
        self._guard = guard
        self._checks = checks
        self._now = now
        self._sleep = sleep
        self.rows = 0
        self.skipped = 0
        """How many rows counted nothing."""
        self.first = b""
        """The first good event."""

    def run(self, rows: Iterable[Row | Unreadable], sender: Sender, pacer: Pacer | None) -> None:
        """Send every good row; return when all are acknowledged. Raises SendFailed, and what the guard raises: then
        what came before is sent, and no more."""
        try:
            # What waits for its turn does not wait for others, too.
            at_once = 1 if self._guard is None or pacer is not None else _GUARDED_AT_ONCE
            for each in self._guarded(self._prepared(rows), at_once):
                self._send(each, sender, pacer)
        except MovedError:
            sender.finish()
            raise
        sender.finish()

    def _prepared(self, rows: Iterable[Row | Unreadable]) -> Iterator[_Prepared]:
        for row in rows:
            self.rows += 1
            if isinstance(row, Unreadable):
                self._rejected.add(row.line, row.rejection)
            elif self._skip_empty and self._builder.counts_nothing(row):
                self.skipped += 1
            else:
                yield from self._read(row)

    def _read(self, row: Row) -> Iterator[_Prepared]:
        try:
            raw = self._builder.event(row)
            event = read_event(raw)
            for check in self._checks:
                check(event, row)
        except RejectedError as error:
            self._rejected.add(row.line, error.rejection)
        else:
            yield _Prepared(row.line, raw, event)

    def _guarded(self, events: Iterator[_Prepared], at_once: int) -> Iterator[_Prepared]:
        while some := list(islice(events, at_once)):
            if self._guard is not None:
                self._guard.check([(each.line, each.event) for each in some])
            yield from some

    def _send(self, each: _Prepared, sender: Sender, pacer: Pacer | None) -> None:
        if pacer is not None:
            self._wait(pacer.seconds_until(each.event.occurred_at), sender)
        try:
            require_not_ahead(each.event, self._now())
        except RejectedError as error:
            self._rejected.add(each.line, error.rejection)
            return
        value = _encoded(each.raw, each.event)
        self.first = self.first or value
        sender.add(each.event.org_id, value, each.line)

    def _wait(self, seconds: float, sender: Sender) -> None:
        if seconds <= 0:
            return
        # What waits to fill its batch does not wait for the next event of a slow trace.
        if sender.waiting_seconds() + seconds > _LINGER_SECONDS:
            sender.flush()
        self._sleep(seconds)


def _encoded(raw: dict[str, Any], event: UsageEvent) -> bytes:
    try:
        return orjson.dumps(raw)
    except TypeError:
        # Some field that nobody reads is nested deeper than orjson writes.
        return known_fields(event)


class DryRun:
    """A sender that sends nothing."""

    events = records = 0

    def add(self, org_id: str, event: bytes, line: int = 0) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def waiting_seconds(self) -> float:
        """Nothing ever waits."""
        return 0.0
