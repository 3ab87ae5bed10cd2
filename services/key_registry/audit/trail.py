"""The audit log: who did what with whose key, when, from where and why; and what was refused to whom.

A change appends its row in its own transaction, so both are committed or neither. A lease changes nothing: its row is
committed before the secret is handed out. All rows are one chain (``audit_chain``), so whoever appends holds up all
others until the commit; requests that wait for their turn are therefore appended together, in one transaction.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import text
from sqlmodel import Session

from services.domain.masking import mask_text
from services.domain.permissions import Caller
from services.domain.scope import Scope
from services.key_registry.audit.chain import WRITTEN
from services.key_registry.audit.refusal_quota import RefusalQuota
from services.key_registry.database.sessions import Sessions

_TOGETHER_MAX = 100
_COLUMNS = ", ".join(WRITTEN)
# One statement for all rows, sent whole: a process that is stopped in the middle of several would hold the chain's end.
_APPEND = text(
    f"INSERT INTO registry.audit ({_COLUMNS})"
    f" SELECT {_COLUMNS} FROM jsonb_populate_recordset(NULL::registry.audit, CAST(:rows AS jsonb))"
)


class Event(StrEnum):
    """What one can do, or try to do."""

    ADD = "credential.add"
    SHOW = "credential.show"
    LIST = "credential.list"
    CHANGE = "credential.change"
    ROTATE = "credential.rotate"
    UNDO_ROTATION = "credential.undo_rotation"
    VERIFY = "credential.verify"
    REVOKE = "credential.revoke"
    RESOLVE = "key.resolve"
    LEASE = "key.lease"
    FOLLOW = "changes.follow"
    REPORT = "credential.report"
    SHOW_PLAN = "plan.show"
    SET_PLAN = "plan.set"
    ADD_ALIASES = "model_aliases.add"
    READ_AUDIT = "audit.read"
    END_SESSIONS = "sessions.end"
    LOSE = "credential.lost"
    REBUILD = "registry.rebuild"


class Subject(NamedTuple):
    """With what it was done; of a key never more than the hint."""

    org_id: str | None
    credential_id: str | None = None
    scope: Scope | None = None
    provider: str | None = None
    hint: str | None = None


class Entry(NamedTuple):
    """One row to be written. ``code`` is why it was refused; None where it was done."""

    actor: Caller
    event: Event
    subject: Subject
    detail: Mapping[str, str | None] = {}
    code: StrEnum | None = None
    omitted: int = 0
    """How many refusals of the same caller were not written since the last one."""


def append(session: Session, *entries: Entry) -> None:
    """Write the rows in this transaction. The last thing that it does: it holds up every other writer from here on."""
    session.connection().execute(_APPEND, {"rows": json.dumps([_values(entry) for entry in entries])})


def _values(entry: Entry) -> dict[str, object]:
    actor, subject = entry.actor, entry.subject
    said = {
        "actor": actor.id,
        "actor_org": actor.org_id,
        **actor.origin._asdict(),
        "action": entry.event.value,
        "outcome": "done" if entry.code is None else "refused",
        "code": entry.code,
        "org_id": _organization(entry),
        "credential_id": subject.credential_id,
        "scope_type": None if subject.scope is None else subject.scope.type.value,
        "scope_id": None if subject.scope is None else subject.scope.id,
        "provider": subject.provider,
        "hint": subject.hint,
        "detail": json.dumps(entry.detail, sort_keys=True, ensure_ascii=False) if entry.detail else None,
    }
    # What callers send may be a key that got into the wrong field.
    masked = {name: None if value is None else mask_text(str(value)) for name, value in said.items()}
    return masked | {"omitted": entry.omitted}


def _organization(entry: Entry) -> str | None:
    """In whose log it stands. What was refused concerns the caller's own organization, not the one it wanted."""
    if entry.code is not None and not entry.actor.is_everywhere:
        return entry.actor.org_id
    return entry.subject.org_id


class _Waiting:
    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.done = False
        self.error: Exception | None = None


class AuditTrail:
    """Writes rows that are about no change, those of concurrent requests together."""

    def __init__(self) -> None:
        self._refusals = RefusalQuota()
        self._waiting: deque[_Waiting] = deque()
        self._turn = threading.Lock()

    def write(self, sessions: Sessions, entry: Entry) -> None:
        """Return when the row is committed. Raises what the database raises, and then nothing is written."""
        mine = _Waiting(entry)
        self._waiting.append(mine)
        with self._turn:
            # Whoever had the turn before may have written this row with its own.
            while not mine.done:
                self._write_some(sessions)
        if mine.error is not None:
            raise mine.error

    def write_refusal(self, sessions: Sessions, entry: Entry) -> None:
        """The same for a refusal, unless its caller was refused too often; then it is counted with the next one."""
        omitted = self._refusals.admit((entry.actor.id, entry.actor.org_id))
        if omitted is not None:
            self.write(sessions, entry._replace(omitted=omitted))

    def _write_some(self, sessions: Sessions) -> None:
        together = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER_MAX))]
        error = _written(sessions, [waiting.entry for waiting in together])
        for waiting in together:
            waiting.done, waiting.error = True, error


def _written(sessions: Sessions, entries: Iterable[Entry]) -> Exception | None:
    try:
        with sessions.begin() as session:
            # One statement that is its own transaction: whoever is stopped here holds up nobody.
            session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            append(session, *entries)
    except Exception as error:  # noqa: BLE001 - it is raised by every request whose row was not written
        return error
    return None
