"""The way of every row: read, made an event, checked, waited for, sent; or refused, without harm to its neighbours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

import orjson

from services.cli.usage.mapping import EventBuilder, FieldRefused
from services.cli.usage.pacing import Pacer
from services.cli.usage.refusals import Refusal, Refusals, check_event
from services.cli.usage.sources import Row, Unreadable

_LINGER_SECONDS = 0.1
# Beyond it the metering refuses an event as time_in_future (docs/contract.md, section 7).
_FUTURE_MAX = timedelta(minutes=5)


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


class Checked(NamedTuple):
    """A good event: its organization, its bytes, and the instant of its time."""

    org_id: str
    value: bytes
    at: datetime


class Publication:
    """One run over a file. Its counters are right at any moment, also after a failure."""

    def __init__(
        self,
        builder: EventBuilder,
        refusals: Refusals,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._builder = builder
        self._refusals = refusals
        self._now = now
        self._sleep = sleep
        self.rows = 0
        self.in_future = 0
        """Good events whose time the metering would refuse as of now."""
        self.first: Checked | None = None

    def run(self, rows: Iterable[Row | Unreadable], sender: Sender, pacer: Pacer | None) -> None:
        """Send every good row; return when all are acknowledged. Raises SendFailed."""
        for event in self._checked(rows):
            if pacer is not None:
                self._wait(pacer.seconds_until(event.at), sender)
            sender.add(event.org_id, event.value)
        sender.finish()

    def _checked(self, rows: Iterable[Row | Unreadable]) -> Iterator[Checked]:
        for row in rows:
            self.rows += 1
            result = self._check(row)
            if isinstance(result, Refusal):
                self._refusals.add(result)
                continue
            self.first = self.first or result
            self.in_future += result.at - self._now() > _FUTURE_MAX
            yield result

    def _check(self, row: Row | Unreadable) -> Checked | Refusal:
        if isinstance(row, Unreadable):
            return Refusal(row.line, "", row.problem)
        try:
            event, at = self._builder.event(row)
        except FieldRefused as refused:
            return Refusal(row.line, refused.field, refused.problem)
        problem = check_event(event)
        if problem is not None:
            return Refusal(row.line, *problem)
        return _encoded(row.line, event, at)

    def _wait(self, seconds: float, sender: Sender) -> None:
        if seconds <= 0:
            return
        # What waits to fill its batch does not wait for the next event of a slow trace.
        if sender.waiting_seconds() + seconds > _LINGER_SECONDS:
            sender.flush()
        self._sleep(seconds)


def _encoded(line: int, event: dict[str, Any], at: datetime) -> Checked | Refusal:
    try:
        return Checked(event["data"]["org_id"], orjson.dumps(event), at)
    except TypeError as error:
        # Some unknown field that we would pass on holds what JSON cannot.
        return Refusal(line, "", f"cannot be written as JSON: {error}")


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
