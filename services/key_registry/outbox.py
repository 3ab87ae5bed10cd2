"""The end of the one ordered log: a change and its message are committed together, or neither is.

Whoever changes anything that moves a price first takes the log's head. So changes are made one at a time, commit order
is the order of ``seq``, there are no gaps, and what a use case reads after taking it stays true until it commits.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from sqlalchemy import func, text
from sqlmodel import Session, col, select, update

from services.key_registry.errors import Code, Refusal
from services.key_registry.models import LogEntry, LogHead

CHANGE_BYTES_MAX = 900_000
"""The longest message: below what a broker takes, so that none can stop the relay for ever."""

_ONE_MICROSECOND = text("interval '1 microsecond'")


class Change(Protocol):
    """A message of ``schemas.registry_changes``."""

    @property
    def seq(self) -> int:
        """Its place in the log."""

    @property
    def key(self) -> str:
        """The key of its record."""

    def model_dump_json(self) -> str:
        """The value of its record."""


class LogWriter:
    """The right to append to the log, held until the transaction ends."""

    def __init__(self, session: Session) -> None:
        """Wait for the right, then read the time. Raises OperationalError after 5 s of waiting."""
        self._session = session
        session.exec(select(LogHead.last_seq).with_for_update()).one()
        # A statement of its own: in one with the lock, the clock could be read before the wait.
        later = func.greatest(func.clock_timestamp(), col(LogHead.last_at) + _ONE_MICROSECOND)
        last_seq, now = session.exec(select(LogHead.last_seq, later)).one()
        self.next_seq: int = last_seq + 1
        self.now: datetime = now
        """When the change takes effect: after every earlier one, even when the machine's clock was set back."""

    def append(self, change: Change) -> None:
        """Write the change with number ``next_seq``. Raises Refusal ``history_too_long``."""
        if change.seq != self.next_seq:
            raise ValueError(f"change {change.seq} does not follow change {self.next_seq - 1}")
        payload = change.model_dump_json().encode()
        if len(payload) > CHANGE_BYTES_MAX:
            raise Refusal(Code.HISTORY_TOO_LONG, f"The history would be longer than {CHANGE_BYTES_MAX} bytes.")
        self._session.add(LogEntry(seq=change.seq, key=change.key, payload=payload, changed_at=self.now))
        self._session.flush()
        self._session.exec(update(LogHead).values(last_seq=change.seq, last_at=self.now))
        self.next_seq += 1


def log_time(session: Session) -> datetime:
    """Now, as the log counts it: never before the last change, even when the machine's clock was set back."""
    now: datetime = session.exec(select(func.greatest(func.clock_timestamp(), LogHead.last_at))).one()
    return now
