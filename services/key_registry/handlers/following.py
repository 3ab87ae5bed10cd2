"""Following the log: what changed, without secrets, so that runners drop leases at once."""

from __future__ import annotations

from services.domain.permissions import CREDENTIALS_LEASE, Caller
from services.key_registry.audit.trail import Event, Subject
from services.key_registry.handlers.refusals import refusals_audited
from services.key_registry.handlers.registry import Registry
from services.key_registry.log.reading import ChangePage, Part, page_of, read_after, read_head
from services.key_registry.rules import policy
from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal


def _whole_log(_after: int | None) -> Subject:
    return Subject(None)


@refusals_audited(Event.FOLLOW, _whole_log)
def changes_after(registry: Registry, caller: Caller, after: int | None, *, limit: int) -> ChangePage:
    """What is there by now behind ``after``; without it only where the log ends: there a runner begins.

    Raises Refusal ``ahead_of_log`` where the log does not reach so far: its database was restored.
    """
    policy.require_scope(caller, CREDENTIALS_LEASE)
    with registry.sessions.begin() as session:
        if after is None:
            return ChangePage((), read_head(session), more=False)
        part = read_after(session, after)
    if after > part.head:
        raise Refusal(
            Code.AHEAD_OF_LOG,
            f"The log ends with change {part.head}: the registry was restored, or this is another one. Drop all leases,"
            " and begin anew without after.",
        )
    return page_of(part, after, followed_by(caller), limit)


def followed_by(caller: Caller) -> str | None:
    """Whose changes the caller is told beside everybody's; None: those of all organizations."""
    return None if caller.is_everywhere else caller.org_id


def read_changes(registry: Registry, after: int) -> Part:
    """What follows ``after``, for those who wait."""
    with registry.sessions.begin() as session:
        return read_after(session, after)
