"""Notices, before anything wrong is sent, that a file is not what was published under the same ids.

Ids by line are good as long as rows are added at the end of a file. Exports grow at the top: then each line names
another row than before. The ledger would refuse those whose line it knows, and charge the last ones, which have come to
stand on new lines, for the second time. So the ledger is asked about every line before it is sent; without one, what is
remembered of what was sent from this machine.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from services.cli.usage.identity import LINE_PREFIX, ROW_PREFIX
from services.cli.usage.remembered import Remembered
from services.domain.usage import Identity, UsageEvent, payload_hash

_WHAT_TO_DO = (
    "Publish what is new as a file of its own, under another --source; and from the first time on, name what tells its "
    "rows apart: --id-from COL,… or --id-from row."
)


class MovedError(Exception):
    """The file's ids stand for other events than those that have them; the message says what to do."""


class Books(Protocol):
    """Who knows which events there are: the ledger, or the memory of this machine."""

    def charges(self, org_ids: Iterable[str], source: str, ids: Sequence[str]) -> Mapping[Identity, bytes]:
        """Of those of the ids that are there, in any of the organizations, the hash of what is."""
        ...

    def has_ids_like(self, org_ids: Iterable[str], source: str, prefix: str) -> bool:
        """Whether an id with this beginning is there for the source, in any of the organizations."""
        ...


class Guard(Protocol):
    """Looks at events before they are sent."""

    def check(self, events: Sequence[tuple[int, UsageEvent]]) -> None:
        """Each with its line. Raises MovedError."""
        ...


class LineGuard:
    """For ids by line."""

    def __init__(self, books: Books, source: str, advice: str = "") -> None:
        """``advice`` is what else may be done where a line is another."""
        self._books = books
        self._source = source
        self._advice = advice
        self._org_ids: set[str] = set()
        self._began = False

    def check(self, events: Sequence[tuple[int, UsageEvent]]) -> None:
        """Raises MovedError where a line is booked with something else, be it for another organization."""
        lines = {f"{LINE_PREFIX}{line}": event for line, event in events if event.id == f"{LINE_PREFIX}{line}"}
        own = {id_: event for id_, event in lines.items() if event.source == self._source}
        self._org_ids |= {event.org_id for event in own.values()}
        if not own:
            return
        if not self._began and self._books.has_ids_like(self._org_ids, self._source, ROW_PREFIX):
            raise MovedError(_other_identity(self._source, "the content of its rows", "--id-from row"))
        self._began = True
        for identity, booked in self._books.charges(self._org_ids, self._source, list(own)).items():
            event = own[identity.id]
            if identity.org_id != event.org_id or booked != payload_hash(event):
                line = identity.id.removeprefix(LINE_PREFIX)
                raise MovedError(
                    f"line {line} is not what was published as line {line} of {self._source} for "
                    f"{identity.org_id}: its lines have moved, or the file, --start or another option has changed. "
                    f"No line from here on was sent. {_WHAT_TO_DO}{self._advice}"
                )


class ContentGuard:
    """For all other ids: the rows must not be booked by line already, for they would be charged again."""

    def __init__(self, books: Books, source: str) -> None:
        self._books = books
        self._source = source
        self._known: set[str] = set()

    def check(self, events: Sequence[tuple[int, UsageEvent]]) -> None:
        """Raises MovedError where something of this source is booked by line."""
        new = {event.org_id for _, event in events if event.source == self._source} - self._known
        if new and self._books.has_ids_like(new, self._source, LINE_PREFIX):
            raise MovedError(_other_identity(self._source, "line", "no --id-from"))
        self._known |= new


def _other_identity(source: str, by: str, how: str) -> str:
    return (
        f"events of {source} were published by {by} already ({how}); by another identity its rows would be charged "
        f"again. Nothing more was sent. {_WHAT_TO_DO}"
    )


class MemoryGuard:
    """Where there is no ledger to ask: the memory of this machine, which also takes in what is sent now.

    It cannot tell what was booked from what was refused.
    """

    def __init__(self, remembered: Callable[[], Remembered | None], guard: Callable[[Books], Guard]) -> None:
        """``remembered`` is called once there is something to send; None: this machine keeps nothing."""
        self._open = remembered
        self._guard = guard
        self._memory: tuple[Remembered, Guard] | None = None
        self._is_open = False

    def check(self, events: Sequence[tuple[int, UsageEvent]]) -> None:
        """Raises as the guard does. A memory that fails is none: it must hold up nobody."""
        try:
            if not self._is_open:
                self._is_open, memory = True, self._open()
                self._memory = None if memory is None else (memory, self._guard(memory))
            if self._memory is not None:
                memory, guard = self._memory
                guard.check(events)
                memory.add(event for _, event in events)
        except sqlite3.Error:
            self._memory = None
