"""The audit log: who did what with whose key, when, from where and why; and what was refused to whom.

A change appends its row in its own transaction, so both are committed or neither. A lease changes nothing: its row is
committed before the secret is handed out. All rows are one chain (``audit_chain``), so whoever appends holds up all
others until the commit; requests that wait for their turn are therefore appended together, in one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, IntegrityError
from sqlmodel import Session

from services.domain.masking import mask_text
from services.domain.permissions import Caller
from services.domain.scope import Scope
from services.key_registry.audit.chain import WRITTEN
from services.key_registry.audit.refusal_quota import RefusalQuota
from services.key_registry.database.sessions import Sessions, each_by_itself
from services.runtime.together import Together

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
    _append(session.connection(), entries)


def append_each(connection: Connection, entries: Sequence[Entry]) -> Sequence[Exception | None]:
    """Commit the rows together, on a connection each of whose statements is a transaction; what became of each row.

    One that the database does not take keeps no other out.
    """
    if not entries:
        return []
    try:
        _append(connection, entries)
    except (DataError, IntegrityError) as error:
        if len(entries) == 1:
            return [error]
        return [outcome for entry in entries for outcome in append_each(connection, [entry])]
    except Exception as error:  # noqa: BLE001 - whoever a row is for raises it
        return [error] * len(entries)
    return [None] * len(entries)


def _append(connection: Connection, entries: Sequence[Entry]) -> None:
    connection.execute(_APPEND, {"rows": json.dumps([_values(entry) for entry in entries])})


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


class AuditTrail:
    """Writes rows that are about no change, those of concurrent requests together."""

    def __init__(self) -> None:
        self._refusals = RefusalQuota()
        self._together: Together[Entry, None] = Together("audit", _TOGETHER_MAX)

    def write(self, sessions: Sessions, entry: Entry) -> None:
        """Return when the row is committed. Raises what the database raises, and then nothing is written."""
        self._together.ask(partial(_written, sessions), entry).result()

    def admitted(self, refusal: Entry) -> Entry | None:
        """The row of a refusal; None where its caller was refused too often, and it is counted with the next one."""
        omitted = self._refusals.admit((refusal.actor.id, refusal.actor.org_id))
        return None if omitted is None else refusal._replace(omitted=omitted)


def _written(sessions: Sessions, entries: Sequence[Entry]) -> Sequence[Exception | None]:
    with sessions() as session:
        return append_each(each_by_itself(session), entries)
