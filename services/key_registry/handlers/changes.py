"""Relabelling a credential, and switching it off and on."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from services.domain.permissions import Action, Caller
from services.domain.scope import Interval
from services.key_registry.audit.trail import Event
from services.key_registry.database import credentials as repository
from services.key_registry.database.credentials import scope_of
from services.key_registry.database.tables import CredentialRow
from services.key_registry.handlers.additions import Place, check_addition
from services.key_registry.handlers.editing import Editing, editing
from services.key_registry.handlers.refusals import refusals_audited, unknown_credential
from services.key_registry.handlers.registry import Registry
from services.key_registry.handlers.views import CredentialView, require_undeleted
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
    registry: Registry, caller: Caller, credential_id: str, wanted: Edit, expected: Expected = ANY
) -> CredentialView:
    """Carry out the whole edit, or none of it. Saying the same twice changes nothing.

    Switching on is refused as an addition is. A label moves no price, so it is not in the log.
    """
    with editing(registry, caller, credential_id, *wanted.actions) as edit:
        expected.require(edit.row.revision)
        require_undeleted(edit.row)
        relabelled = _relabel(edit.row, wanted.label)
        switched = _switch(edit, enabled=wanted.enabled)
        if relabelled or switched:
            edit.save()
        changed = edit.view()
        if relabelled or switched:
            edit.note(Event.CHANGE, _detail(wanted))
    if switched:
        _log.info("credential switched", credential_id=credential_id, org_id=changed.org_id, enabled=wanted.enabled)
    return changed


def _detail(wanted: Edit) -> dict[str, str | None]:
    # What a label says is its owner's affair.
    detail: dict[str, str | None] = {}
    if wanted.label is not UNCHANGED:
        detail["label"] = "removed" if wanted.label is None else "set"
    if wanted.enabled is not None:
        detail["enabled"] = str(wanted.enabled).lower()
    return detail


def _relabel(row: CredentialRow, label: str | Unchanged | None) -> bool:
    if isinstance(label, Unchanged) or label == row.label:
        return False
    row.label = label
    return True


def _switch(edit: Editing, *, enabled: bool | None) -> bool:
    before = repository.intervals_of(edit.session, [edit.row])[edit.row.credential_id]
    if enabled is None or enabled == any(interval.end is None for interval in before):
        return False
    if enabled:
        _check_switching_on(edit, len(before))
        repository.switch_on(edit.session, edit.row, edit.log.now)
    else:
        repository.switch_off(edit.session, edit.row, edit.log.now)
    edit.append_history()
    return True


def _check_switching_on(edit: Editing, intervals: int) -> None:
    place = Place(edit.row.org_id, scope_of(edit.row), edit.row.provider)
    check_addition(edit.registry, edit.session, place, Interval(edit.log.now, None), edit.log.now)
    if intervals >= INTERVALS_MAX:
        raise Refusal(Code.HISTORY_TOO_LONG, f"It was switched on {INTERVALS_MAX} times; delete it and add a new one.")
