"""The way of every row: read, made an event, checked, waited for, sent; or refused, without harm to its neighbours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from services.cli.usage.mapping import EventBuilder
from services.cli.usage.pacing import Pacer
from services.cli.usage.rejected_rows import RejectedRows
from services.cli.usage.sources import Row, Unreadable
from services.domain.usage import UsageEvent
from services.messages.usage_events import RejectedError, known_fields, read_event, require_not_ahead

_LINGER_SECONDS = 0.1


class Sender(Protocol):
    """Where checked events go; BatchSender, or nowhere in a dry run."""

    def add(self, org_id: str, event: bytes) -> None:
        """Take in one event (JSON)."""

    def flush(self) -> None:
        """Send what waits."""

    def finish(self) -> None:
        """Send what waits, and wait for every acknowledgement."""

    def waiting_seconds(self) -> float:
        """How long the oldest unsent event has been waiting."""
        ...


class Publication:
    """One run over a file. Its counters are right at any moment, also after a failure."""

    def __init__(
        self,
        builder: EventBuilder,
        rejected: RejectedRows,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._builder = builder
        self._rejected = rejected
        self._now = now
        self._sleep = sleep
        self.rows = 0
        self.first = b""
        """The first good event."""

    def run(self, rows: Iterable[Row | Unreadable], sender: Sender, pacer: Pacer | None) -> None:
        """Send every good row; return when all are acknowledged. Raises SendFailed."""
        for row in rows:
            self.rows += 1
            if isinstance(row, Unreadable):
                self._rejected.add(row.line, row.rejection)
                continue
            try:
                raw = self._builder.event(row)
                event = read_event(raw)
                if pacer is not None:
                    self._wait(pacer.seconds_until(event.occurred_at), sender)
                require_not_ahead(event, self._now())
            except RejectedError as error:
                self._rejected.add(row.line, error.rejection)
                continue
            value = _encoded(raw, event)
            self.first = self.first or value
            sender.add(event.org_id, value)
        sender.finish()

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

    def add(self, org_id: str, event: bytes) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def waiting_seconds(self) -> float:
        """Nothing ever waits."""
        return 0.0
