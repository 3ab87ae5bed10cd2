"""A contender as a process: started, watched, killed; and what it has written so far."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from process_usage import peak_bytes, processor_seconds
from rivals.contenders import OURS, Contender
from rivals.ground import Ground
from rivals.judgement import Charged
from rivals.programs.begun import BEGUN

from services.local.children import foreign_environment, service_program
from services.local.processes import Child, Program

_POLL_SECONDS = 0.2
_REST_SECONDS = 3.0
"""Longer than any of them waits before it writes what it has, or commits."""
_STALLED_SECONDS = 45.0
_STOP = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0))


class Begun(NamedTuple):
    """From when on a contender is measured, with how many events uncounted because they were read before."""

    at: datetime
    events: int
    processor_seconds: float | None
    """What it had used by then; None where it does not say."""


class Running:
    """One contender, which can be started again."""

    def __init__(self, contender: Contender, ground: Ground) -> None:
        self.contender = contender
        self._ground = ground
        self._folder = ground.folder / (contender.table or "ours")
        self._folder.mkdir()
        self._program = self._of(contender)
        self._child: Child | None = None
        if contender.prepare:
            subprocess.run(contender.prepare, cwd=self._folder, env=self._program.environment, check=True, timeout=60)

    def _of(self, contender: Contender) -> Program:
        if contender is OURS:
            return service_program("metering", contender.command, self._ground.environment(), self._folder)
        environment = {**foreign_environment(), **contender.environment}
        return Program(contender.table or "", contender.command, environment, self._folder, stop=_STOP)

    @property
    def written(self) -> int:
        """How many events it has written. Raises SystemExit with its last words where it has ended by itself."""
        if self._child is not None and self._child.crashed:
            raise SystemExit(self._child.obituary())
        (events,) = self._asked(self.contender.written)
        return int(events)

    @property
    def pid(self) -> int:
        """Its process. Raises SystemExit where it does not run."""
        if self._child is None:
            raise SystemExit(f"{self.contender.name} does not run")
        return self._child.pid

    def start(self) -> None:
        """Start it, also again."""
        self._child = Child(self._program, self._folder / "log")

    def stop(self) -> None:
        """End it as an operator would; safe to call again."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """kill -9."""
        os.killpg(self.pid, signal.SIGKILL)
        self.stop()

    def charged(self, ids: str) -> list[Charged]:
        """What it has written of the events whose ids are like ``ids``."""
        return [Charged(*row) for row in self._ground.database.execute(self.contender.charged, {"ids": ids})]

    def begun(self, since: datetime) -> Begun:
        """From when on it is measured, of what it has worked off ``since``."""
        if self.contender.began is None:
            said = json.loads((self._folder / BEGUN).read_text())
            return Begun(datetime.fromtimestamp(said["at"], UTC), 0, said["processor_seconds"])
        at, events = self._asked(self.contender.began, {"since": since})
        return Begun(at, events, None)

    def ended(self) -> datetime:
        """Since when all is written, asked once it is."""
        (at,) = self._asked(self.contender.ended)
        ended: datetime = at
        return ended

    def _asked(self, query: str, parameters: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._ground.database.execute(query, parameters).fetchone()
        if row is None:
            raise SystemExit(f"{self.contender.name} has written nothing")
        return row


@contextmanager
def running(runners: Sequence[Running]) -> Iterator[None]:
    """All of them at once, until the block ends."""
    try:
        for runner in runners:
            runner.start()
        yield
    finally:
        for runner in runners:
            runner.stop()


class WorkedOff(NamedTuple):
    """How fast a contender was, and what it took."""

    per_second: float
    """Events, from the first until the last one's row is there."""
    processor_micros: float
    """Processor time an event."""
    peak_bytes: int


def work_off(runner: Running, events: int) -> WorkedOff:
    """Start it while ``events`` wait in the topic, and stop it when it has written them all."""
    before, since = runner.written, datetime.now(UTC)
    seen: list[tuple[int, float]] = []
    ended: list[datetime] = []

    def look() -> int:
        written = runner.written - before
        if written and not ended:
            seen.append((written, processor_seconds(runner.pid)))
        if written >= events and not ended:
            ended.append(runner.ended())
        return written

    runner.start()
    try:
        if not _at_rest(look, events):
            raise SystemExit(f"{runner.contender.name} wrote {runner.written - before:,} of {events:,} events")
        memory = peak_bytes(runner.pid)
    finally:
        runner.stop()
    begun = runner.begun(since)
    # Who does not say when it begins is measured from the first look at which it has written, and begins earlier.
    first, cpu_at_first = seen[0] if begun.processor_seconds is None else (0, begun.processor_seconds)
    return WorkedOff(
        per_second=(events - begun.events) / (ended[0] - begun.at).total_seconds(),
        processor_micros=(seen[-1][1] - cpu_at_first) / (events - first) * 1e6,
        peak_bytes=memory,
    )


def _at_rest(look: Callable[[], int], events: int) -> bool:
    """Wait until nothing more is written; whether that is all ``events`` at least."""
    written, since = look(), time.monotonic()
    while True:
        time.sleep(_POLL_SECONDS)
        if (now := look()) != written:
            written, since = now, time.monotonic()
        rested = time.monotonic() - since
        if written >= events and rested > _REST_SECONDS:
            return True
        if rested > _STALLED_SECONDS:
            return False


def wait_for_rest(runners: Sequence[Running], written: Sequence[int], events: int) -> None:
    """Wait until each has written ``events`` more than it had ``written``, and then nothing more, or stalls."""
    for runner, before in zip(runners, written, strict=True):
        _at_rest(partial(getattr, runner, "written"), before + events)
