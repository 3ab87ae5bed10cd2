"""The end of the one ordered log: a change and its message are committed together, or neither is.

Whoever changes anything that moves a price first takes the log's head. So changes are made one at a time, commit order
is the order of ``seq``, there are no gaps, and what a use case reads after taking it stays true until it commits.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVarTuple

from sqlalchemy import func
from sqlmodel import Session, select, update

from schemas.topics import MESSAGE_BYTES_MAX
from services.key_registry.database.sessions import Sessions, completeness_of
from services.key_registry.database.tables import AuditHead, LogEntry, LogHead
from services.key_registry.rules.clock import after, reached, time_of_change
from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal

CHANGE_BYTES_MAX = MESSAGE_BYTES_MAX - 100_000
"""The longest message: below what a broker takes, so that none can stop the relay for ever."""


_About = TypeVarTuple("_About")


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

    def __init__(self, session: Session, *, dates_itself: bool = False) -> None:
        """Wait for the right, then for the clock, where that is a little behind the log.

        A change that ``dates_itself`` says of its own from when it counts, so it needs no clock.
        Raises OperationalError after 5 s of waiting for others, ClockBehindLogError where the clock is too far behind,
        LogBehindError or LogUnconfirmedError where the log is not known to be whole.
        """
        self._session = session
        if (completeness := completeness_of(session)) is not None:
            completeness.require_for_change()
        last_seq, last_at = session.exec(select(LogHead.last_seq, LogHead.last_at).with_for_update()).one()
        self.next_seq: int = last_seq + 1
        # Nobody else could append meanwhile either, so it is waited with the right in hand.
        self.now: datetime = (
            max(_clock(session), after(last_at))
            if dates_itself
            else time_of_change(lambda: _clock(session), max(last_at, _audited_at(session)))
        )
        """When the change takes effect: after every earlier one and every lease, and never ahead of the clock."""

    def append(self, change_of: Callable[[int, datetime, *_About], Change], *about: *_About) -> int:
        """Write the change that ``change_of`` makes of the next number, ``now`` and ``about``; return its number.

        Raises Refusal ``history_too_long``.
        """
        change = change_of(self.next_seq, self.now, *about)
        payload = change.model_dump_json().encode()
        if len(payload) > CHANGE_BYTES_MAX:
            raise Refusal(Code.HISTORY_TOO_LONG, f"The history would be longer than {CHANGE_BYTES_MAX} bytes.")
        self._session.add(LogEntry(seq=change.seq, key=change.key, payload=payload, changed_at=self.now))
        self._session.flush()
        self._session.exec(update(LogHead).values(last_seq=change.seq, last_at=self.now))
        self.next_seq += 1
        return change.seq


def _clock(session: Session) -> datetime:
    # A statement of its own: in one with the lock, the clock could be read before the wait.
    now: datetime = session.exec(select(func.clock_timestamp())).one()
    return now


def _audited_at(session: Session) -> datetime:
    # No lease is handed out without its row.
    return session.exec(select(AuditHead.last_at)).one()


def log_time(session: Session) -> datetime:
    """Now, as the log counts it: never before the last change, even when the clock was set back. For looking only."""
    now: datetime = session.exec(select(func.greatest(func.clock_timestamp(), LogHead.last_at))).one()
    return now


def charged_time(sessions: Sessions, clock: datetime, last_at: datetime) -> datetime:
    """Now, as events say it that are sent now: what the database's ``clock`` shows when the log ends at ``last_at``.

    Raises ClockBehindLogError where the log is ahead of it, LogBehindError where the log lacks what others know.
    """
    if (completeness := completeness_of(sessions)) is not None:
        completeness.require_for_lease()
    return reached(clock, last_at)
