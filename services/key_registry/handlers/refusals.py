"""Refusals of a use case, told to the audit log."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar

from services.domain.permissions import Caller
from services.key_registry.audit.trail import Entry, Event, Subject
from services.key_registry.handlers.registry import Registry
from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal

_About = TypeVar("_About")
_Rest = ParamSpec("_Rest")
_Answer = TypeVar("_Answer")

# A request that makes no sense was no attempt at anything; nor is it whoever follows a log that was restored.
_MISTAKES = frozenset({Code.INVALID_REQUEST, Code.PROVIDER_NOT_SUPPORTED, Code.AHEAD_OF_LOG})


def refusals_audited(
    event: Event, subject: Callable[[_About], Subject]
) -> Callable[
    [Callable[Concatenate[Registry, Caller, _About, _Rest], _Answer]],
    Callable[Concatenate[Registry, Caller, _About, _Rest], _Answer],
]:
    """Decorates a use case, so that what it refuses becomes a row of the audit log; ``subject`` says of its third
    argument what it was about.
    """

    def decorate(
        use_case: Callable[Concatenate[Registry, Caller, _About, _Rest], _Answer],
    ) -> Callable[Concatenate[Registry, Caller, _About, _Rest], _Answer]:
        @functools.wraps(use_case)
        def run(
            registry: Registry, caller: Caller, about: _About, /, *rest: _Rest.args, **more: _Rest.kwargs
        ) -> _Answer:
            try:
                return use_case(registry, caller, about, *rest, **more)
            except Refusal as refusal:
                entry = entry_of_refusal(registry, caller, event, subject(about), refusal)
                if entry is not None:
                    registry.audit.write(registry.sessions, entry)
                raise

        return run

    return decorate


def entry_of_refusal(
    registry: Registry, caller: Caller, event: Event, subject: Subject, refusal: Refusal
) -> Entry | None:
    """The row of the audit log that a refusal becomes; None where it becomes none, or is only counted."""
    if refusal.code in _MISTAKES:
        return None
    return registry.audit.admitted(Entry(caller, event, subject, code=refusal.code))


def unknown_credential(credential_id: str) -> Subject:
    """What may be noted of an id that may be none of ours: anything that is not shaped like one may be a key."""
    try:
        return Subject(None, str(uuid.UUID(credential_id)))
    except ValueError:
        return Subject(None)


def whole_organization(org_id: str) -> Subject:
    """What is about an organization, and none of its keys."""
    return Subject(org_id)


def backdated(effective_from: datetime | None) -> dict[str, str | None]:
    """What the audit log says of a time of the caller's own."""
    return {} if effective_from is None else {"effective_from": effective_from.isoformat()}
