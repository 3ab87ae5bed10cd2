"""Which key applies to a use, and the lease of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import SecretStr
from sqlmodel import Session

from services.domain.directory import Directory, PlanHistory
from services.domain.permissions import CREDENTIALS_LEASE, Caller, may_resolve
from services.domain.resolution import LEASE_LIFE, Resolution, Use, resolve_unclaimed
from services.domain.scope import Plan, ScopeType
from services.key_registry.audit.trail import Entry, Event, Subject
from services.key_registry.database import credentials as repository
from services.key_registry.database.sessions import one_moment
from services.key_registry.database.tables import CredentialRow
from services.key_registry.handlers.refusals import refusals_audited
from services.key_registry.handlers.registry import Registry, card_for
from services.key_registry.handlers.secrets import open_secret
from services.key_registry.handlers.views import subject_of
from services.key_registry.log.outbox import charged_time
from services.key_registry.rules import policy
from services.key_registry.rules.clock import waited_out
from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal

USE_NOTED_EVERY = timedelta(minutes=1)
"""How exactly the last use of a key is known: a write for each lease would cost more than it tells."""


class Answer(NamedTuple):
    """Which key applies to a use, and why; the plan is the organization's at that time."""

    use: Use
    plan: Plan
    resolution: Resolution


class Lease(NamedTuple):
    """An answer for now with the secret of the key, to be used until ``expires_at``; None for the platform's."""

    answer: Answer
    expires_at: datetime
    ttl: timedelta
    secret: SecretStr | None


def _asked(use: Use) -> Subject:
    return Subject(use.org_id, provider=use.provider)


@refusals_audited(Event.RESOLVE, _asked)
def resolve_key(registry: Registry, caller: Caller, use: Use, *, now: bool) -> Answer:
    """Which key applies, and why; with ``now`` at this moment, whatever ``use`` says. Nothing is decrypted.

    For ``now`` it is what a lease would say: raises ClockBehindLogError where none would be given.
    """
    policy.require_organization(caller, use.org_id)
    if not may_resolve(caller, use.org_id, use.team_id, use.user_id):
        raise Refusal(Code.FORBIDDEN, "You may ask which key applies only for yourself, in teams of yours.")

    def answer() -> Answer:
        with registry.sessions.begin() as session:
            return _answer(registry, session, use, now=now)

    return waited_out(answer)


@refusals_audited(Event.LEASE, _asked)
def lease_key(registry: Registry, caller: Caller, use: Use) -> Lease:
    """The key that applies now, with its secret.

    A key that applies but cannot be decrypted, or whose secret is lost, is refused (``credential_unusable``,
    ``credential_lost``): it is never taken for no key, which would silently be charged at the platform's price. While
    the clock is behind the log nothing is leased (ClockBehindLogError): what an event of now is charged is not what the
    log says of now. Nor is it while the log lacks what others know (LogBehindError).
    """
    policy.require_organization(caller, use.org_id)
    policy.require_scope(caller, CREDENTIALS_LEASE)
    # Each attempt sees the log anew: what was added while the clock was waited for is seen.
    answer, row, secret = waited_out(lambda: _key_of_now(registry, use))
    # Committed before the secret leaves: none is handed out without its row.
    registry.audit.write(registry.sessions, Entry(caller, Event.LEASE, _leased(answer, row), _lease_detail(answer)))
    if row is not None:
        _note_use(registry, row, answer.use.at)
    return Lease(answer, answer.use.at + LEASE_LIFE, LEASE_LIFE, secret)


def _key_of_now(registry: Registry, use: Use) -> tuple[Answer, CredentialRow | None, SecretStr | None]:
    with registry.sessions.begin() as session:
        answer = _answer(registry, session, use, now=True)
        credential = answer.resolution.credential
        row = None if credential is None else repository.credential_row(session, credential.credential_id)
        return answer, row, None if row is None else open_secret(registry, session, row)


def _answer(registry: Registry, session: Session, use: Use, *, now: bool) -> Answer:
    one_moment(session)
    if now:
        use = use._replace(at=charged_time(session))
    scopes = [scope for level in ScopeType if (scope := use.scope(level)) is not None]
    directory = Directory()
    directory.apply(1, PlanHistory(use.org_id, repository.plans_of(session, use.org_id)))
    for seq, credential in enumerate(repository.credentials_in(session, use.org_id, scopes, use.provider), start=2):
        directory.apply(seq, credential)
    card = card_for(registry.cards.cards(session), use.at)
    return Answer(use, directory.plan_at(use.org_id, use.at), resolve_unclaimed(use, directory, card))


def _leased(answer: Answer, row: CredentialRow | None) -> Subject:
    return _asked(answer.use) if row is None else subject_of(row)


def _lease_detail(answer: Answer) -> dict[str, str | None]:
    return {"user_id": answer.use.user_id, "team_id": answer.use.team_id, "reason": answer.resolution.reason.value}


def _note_use(registry: Registry, row: CredentialRow, at: datetime) -> None:
    # Apart from the lease's own transaction: that one is of a single moment, and would fail where another wrote.
    if row.last_used_at is None or at - row.last_used_at > USE_NOTED_EVERY:
        with registry.sessions.begin() as session:
            repository.touch(session, row.credential_id, at, USE_NOTED_EVERY)
