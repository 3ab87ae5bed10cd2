"""Relabelling a credential, and switching it off and on."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from sqlmodel import Session

from services.domain.permissions import Action, Caller
from services.domain.scope import Interval
from services.key_registry.audit import trail as audit
from services.key_registry.audit.trail import Entry, Event
from services.key_registry.database import credentials as repository
from services.key_registry.database.credentials import scope_of
from services.key_registry.database.tables import CredentialRow
from services.key_registry.handlers.additions import Place, check_addition
from services.key_registry.handlers.refusals import refusals_audited, unknown_credential
from services.key_registry.handlers.registry import Registry
from services.key_registry.handlers.views import (
    CredentialView,
    require,
    require_undeleted,
    subject_of,
    take,
    view,
    visible,
)
from services.key_registry.log.changes import credential_change
from services.key_registry.log.outbox import LogWriter
from services.key_registry.rules.preconditions import ANY, Expected
from services.key_registry.rules.refusals import Code
from services.runtime.logs import logger
from services.runtime.refusals import Refusal

_log = logger(__name__)

INTERVALS_MAX = 1_000
"""How often a credential can be switched on: its whole history is one message, which must have room for its end."""


class Unchanged(Enum):
    """What is not to be changed; None is a label too."""

    UNCHANGED = auto()


UNCHANGED = Unchanged.UNCHANGED


class Edit(NamedTuple):
    """What is to be changed about a credential."""

    label: str | Unchanged | None = UNCHANGED
    enabled: bool | None = None
    """None: as it is."""

    @property
    def actions(self) -> tuple[Action, ...]:
        """What one must be allowed to do for it."""
        switching = () if self.enabled is None else (Action.ENABLE if self.enabled else Action.DISABLE,)
        return switching if self.label is UNCHANGED else (Action.RELABEL, *switching)


@refusals_audited(Event.CHANGE, unknown_credential)
def change_credential(
    registry: Registry, caller: Caller, credential_id: str, edit: Edit, expected: Expected = ANY
) -> CredentialView:
    """Carry out the whole edit, or none of it. Saying the same twice changes nothing.

    Switching on is refused as an addition is. A label moves no price, so it is not in the log.
    """
    with registry.sessions.begin() as session:
        row = visible(session, caller, credential_id)
        require(caller, row, *edit.actions)
        log = take(session, row)
        expected.require(row.revision)
        require_undeleted(row)
        relabelled = _relabel(row, edit.label)
        switched = _switch(registry, session, log, row, enabled=edit.enabled)
        if relabelled or switched:
            row.revision += 1
            session.add(row)
            session.flush()
        changed = view(registry, session, row, caller, log.now)
        if relabelled or switched:
            audit.append(session, Entry(caller, Event.CHANGE, subject_of(row), _detail(edit)))
    if switched:
        _log.info("credential switched", credential_id=credential_id, org_id=row.org_id, enabled=edit.enabled)
    return changed


def _detail(edit: Edit) -> dict[str, str | None]:
    # What a label says is its owner's affair.
    detail: dict[str, str | None] = {}
    if edit.label is not UNCHANGED:
        detail["label"] = "removed" if edit.label is None else "set"
    if edit.enabled is not None:
        detail["enabled"] = str(edit.enabled).lower()
    return detail


def _relabel(row: CredentialRow, label: str | Unchanged | None) -> bool:
    if isinstance(label, Unchanged) or label == row.label:
        return False
    row.label = label
    return True


def _switch(registry: Registry, session: Session, log: LogWriter, row: CredentialRow, *, enabled: bool | None) -> bool:
    before = repository.intervals_of(session, [row])[row.credential_id]
    if enabled is None or enabled == any(interval.end is None for interval in before):
        return False
    if enabled:
        _check_switching_on(registry, session, log, row, len(before))
        repository.switch_on(session, row, log.now)
    else:
        repository.switch_off(session, row, log.now)
    after = repository.as_credential(row, repository.intervals_of(session, [row])[row.credential_id])
    log.append(credential_change(log.next_seq, log.now, after, row.hint))
    return True


def _check_switching_on(
    registry: Registry, session: Session, log: LogWriter, row: CredentialRow, intervals: int
) -> None:
    place = Place(row.org_id, scope_of(row), row.provider)
    check_addition(registry, session, place, Interval(log.now, None), log.now)
    if intervals >= INTERVALS_MAX:
        raise Refusal(Code.HISTORY_TOO_LONG, f"It was switched on {INTERVALS_MAX} times; delete it and add a new one.")
