"""Which key applies to a use, and the lease of it.

Runners ask this all the time, so those who ask at the same time are answered together: one look at the database for
all of them, and for leases one commit of their rows of the audit log. What becomes of one is nobody else's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from pydantic import SecretStr
from sqlalchemy import Connection
from sqlmodel import Session

from services.domain.directory import Directory, PlanHistory
from services.domain.permissions import CREDENTIALS_LEASE, Caller, may_resolve
from services.domain.resolution import LEASE_LIFE, Resolution, Use, resolve_unclaimed
from services.key_registry.audit.trail import Entry, Event, Subject, append_each
from services.key_registry.database import credentials as repository
from services.key_registry.database.looks import Found, KeyFound, Question, look
from services.key_registry.database.sessions import each_by_itself
from services.key_registry.handlers.key_questions import Answer, Asked, Lease
from services.key_registry.handlers.refusals import entry_of_refusal
from services.key_registry.handlers.registry import Registry, card_for
from services.key_registry.handlers.secrets import held, open_version
from services.key_registry.handlers.views import subject_of
from services.key_registry.keyring.envelopes import Keyring
from services.key_registry.log.outbox import charged_time
from services.key_registry.rules import policy
from services.key_registry.rules.clock import ClockBehindLogError, waited_out
from services.key_registry.rules.completeness import LogBehindError
from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal

USE_NOTED_EVERY = timedelta(minutes=1)
"""How exactly the last use of a key is known: a write for each lease would cost more than it tells."""

_T = TypeVar("_T")
_More = ParamSpec("_More")


def resolve_key(registry: Registry, caller: Caller, use: Use, *, now: bool) -> Future[Answer]:
    """Which key applies, and why; with ``now`` at this moment, whatever ``use`` says. Nothing is decrypted.

    For ``now`` it is what a lease would say: raises ClockBehindLogError where none would be given.
    """
    return registry.resolutions.ask(
        partial(_resolve_all, registry), Asked(caller, use, now=now, context=copy_context())
    )


def lease_key(registry: Registry, caller: Caller, use: Use) -> Future[Lease]:
    """The key that applies now, with its secret.

    A key that applies but cannot be decrypted, or whose secret is lost, is refused (``credential_unusable``,
    ``credential_lost``): it is never taken for no key, which would silently be charged at the platform's price. While
    the clock is behind the log nothing is leased (ClockBehindLogError): what an event of now is charged is not what the
    log says of now. Nor is it while the log lacks what others know (LogBehindError).
    """
    return registry.leases.ask(partial(_lease_all, registry), Asked(caller, use, now=True, context=copy_context()))


class _Opened(NamedTuple):
    answer: Answer
    key: KeyFound | None
    secret: SecretStr | None


def _resolve_all(registry: Registry, asked: Sequence[Asked]) -> Sequence[Answer | Exception]:
    with registry.sessions() as session:
        connection = each_by_itself(session)
        answers = _answers(registry, connection, asked, _may_resolve, partial(_answer, registry), opens=False)
        return _on_record(registry, connection, asked, answers, Event.RESOLVE)


def _lease_all(registry: Registry, asked: Sequence[Asked]) -> Sequence[Lease | Exception]:
    with registry.sessions() as session:
        connection = each_by_itself(session)
        opened = partial(_opened, registry, registry.keyring.now())
        outcomes = _answers(registry, connection, asked, _may_lease, opened, opens=True)
        # Committed before the secret leaves: none is handed out without its row.
        recorded = _on_record(registry, connection, asked, outcomes, Event.LEASE, _entry_of_lease)
        return [_lease(each) if isinstance(each, _Opened) else each for each in _use_noted(session, recorded)]


def _may_resolve(asked: Asked) -> None:
    caller, use = asked.caller, asked.use
    policy.require_organization(caller, use.org_id)
    if not may_resolve(caller, use.org_id, use.team_id, use.user_id):
        raise Refusal(Code.FORBIDDEN, "You may ask which key applies only for yourself, in teams of yours.")


def _may_lease(asked: Asked) -> None:
    policy.require_organization(asked.caller, asked.use.org_id)
    policy.require_scope(asked.caller, CREDENTIALS_LEASE)


def _answers(
    registry: Registry,
    connection: Connection,
    asked: Sequence[Asked],
    may: Callable[[Asked], None],
    answer: Callable[[Asked, Found], _T],
    *,
    opens: bool,
) -> Sequence[_T | Exception]:
    """What ``answer`` makes of what is found for each, or its error; who may not ask is refused before it is looked."""
    refused = [_outcome(each, may) for each in asked]
    allowed = [each for each, refusal in zip(asked, refused, strict=True) if refusal is None]
    found = iter(_looked(registry, connection, allowed, opens=opens) if allowed else ())
    return [
        _outcome(each, answer, next(found)) if refusal is None else refusal
        for each, refusal in zip(asked, refused, strict=True)
    ]


def _outcome(
    asked: Asked, step: Callable[Concatenate[Asked, _More], _T], *more: _More.args, **named: _More.kwargs
) -> _T | Exception:
    try:
        return asked.context.run(step, asked, *more, **named)
    except Exception as error:  # noqa: BLE001 - whoever asked raises it
        return error


def _looked(registry: Registry, connection: Connection, asked: Sequence[Asked], *, opens: bool) -> Sequence[Found]:
    found: Sequence[Found] = ()

    def attempt() -> None:
        # Each attempt sees the log anew: what was added while the clock was waited for is seen.
        nonlocal found
        found = look(connection, [Question(each.use, each.now, opens) for each in asked])
        if any(each.now for each in asked):
            charged_time(registry.sessions, found[0].clock, found[0].last_at)

    try:
        waited_out(attempt)
    except (ClockBehindLogError, LogBehindError):
        # Told to those who ask about now.
        return found
    return found


def _answer(registry: Registry, asked: Asked, found: Found) -> Answer:
    use = asked.use
    if asked.now:
        use = use._replace(at=charged_time(registry.sessions, found.clock, found.last_at))
    directory = Directory()
    directory.apply(1, PlanHistory(use.org_id, found.plans))
    for seq, key in enumerate(found.keys, start=2):
        directory.apply(seq, repository.as_credential(key, key.active))
    card = card_for(registry.cards.named(registry.sessions, found.cards), use.at)
    return Answer(use, directory.plan_at(use.org_id, use.at), resolve_unclaimed(use, directory, card))


def _opened(registry: Registry, keyring: Keyring, asked: Asked, found: Found) -> _Opened:
    answer = _answer(registry, asked, found)
    key = _applied(answer.resolution, found.keys)
    return _Opened(answer, key, None if key is None else open_version(keyring, key, held(key, key.secret)))


def _applied(resolution: Resolution, keys: Iterable[KeyFound]) -> KeyFound | None:
    credential = resolution.credential
    return None if credential is None else next(key for key in keys if key.credential_id == credential.credential_id)


def _on_record(
    registry: Registry,
    connection: Connection,
    asked: Sequence[Asked],
    outcomes: Sequence[_T | Exception],
    event: Event,
    entry_of: Callable[[Asked, _T], Entry | None] = lambda _asked, _outcome: None,
) -> Sequence[_T | Exception]:
    """The outcomes, once the rows of the audit log that they become are committed; a row's error in its place."""

    def entry(each: Asked, outcome: _T | Exception) -> Entry | None:
        if isinstance(outcome, Refusal):
            return entry_of_refusal(registry, each.caller, event, _about(each.use), outcome)
        return None if isinstance(outcome, Exception) else entry_of(each, outcome)

    entries = list(map(entry, asked, outcomes))
    failures = iter(append_each(connection, [each for each in entries if each is not None]))
    return [
        outcome if written is None or (failure := next(failures)) is None else failure
        for outcome, written in zip(outcomes, entries, strict=True)
    ]


def _entry_of_lease(asked: Asked, opened: _Opened) -> Entry:
    answer, key, _ = opened
    subject = _about(answer.use) if key is None else subject_of(key)
    detail = {
        "user_id": answer.use.user_id,
        "team_id": answer.use.team_id,
        "reason": answer.resolution.reason.value,
    }
    return Entry(asked.caller, Event.LEASE, subject, detail)


def _about(use: Use) -> Subject:
    return Subject(use.org_id, provider=use.provider)


def _use_noted(session: Session, leased: Sequence[_Opened | Exception]) -> Sequence[_Opened | Exception]:
    due = {key for each in leased if (key := _due_key(each)) is not None}
    if not due:
        return leased
    # They are of one look, and so of one time.
    at = max(each.answer.use.at for each in leased if isinstance(each, _Opened))
    try:
        repository.touch(session, due, at, USE_NOTED_EVERY)
    except Exception as error:  # noqa: BLE001 - those whose use is not noted raise it
        return [each if _due_key(each) is None else error for each in leased]
    return leased


def _due_key(leased: _Opened | Exception) -> str | None:
    """The id of the key whose use is to be noted."""
    if isinstance(leased, Exception) or leased.key is None:
        return None
    noted = leased.key.last_used_at
    due = noted is None or leased.answer.use.at - noted > USE_NOTED_EVERY
    return leased.key.credential_id if due else None


def _lease(opened: _Opened) -> Lease:
    return Lease(opened.answer, opened.answer.use.at + LEASE_LIFE, LEASE_LIFE, opened.secret)
