"""Reads and writes of the registry's rows, in the words of the domain. Transactions are the handlers' business."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from sqlalchemy import ColumnElement, and_, exists, false, func, not_, or_, true
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select, update

from services.domain.directory import Credential, PlanHistory
from services.domain.permissions import Sight
from services.domain.rate_card import RateCard, in_order
from services.domain.scope import Interval, PlanPeriod, Scope, ScopeType
from services.key_registry.database.plan_periods import periods_from_json, periods_to_json
from services.key_registry.database.secrets import Check, insert_version
from services.key_registry.database.sessions import Sessions
from services.key_registry.database.tables import (
    CredentialInterval,
    CredentialRow,
    PlanHistoryRow,
    RateCardRow,
    SecretVersion,
    Slot,
)
from services.key_registry.keyring.envelopes import Binding, SealedSecret
from services.key_registry.rules.standing import Status, Surroundings
from services.messages.rate_cards import read_rate_card

_SWITCHED_ON = (
    exists()
    .where(
        col(CredentialInterval.credential_id) == col(CredentialRow.credential_id),
        col(CredentialInterval.active_to).is_(None),
    )
    .correlate(CredentialRow)
)
_HELD = (
    exists()
    .where(
        col(SecretVersion.credential_id) == col(CredentialRow.credential_id),
        col(SecretVersion.restorable_until).is_(None),
        col(SecretVersion.destroyed_at).is_(None),
    )
    .correlate(CredentialRow)
)
_LOST = and_(col(CredentialRow.deleted_at).is_(None), not_(_HELD))


class CredentialFilter(NamedTuple):
    """Which credentials of an organization a list holds; None does not narrow it down."""

    org_id: str
    scope_type: ScopeType | None = None
    scope_id: str | None = None
    provider: str | None = None
    status: Status | None = None


class OfCredential(Protocol):
    """Whatever says whose key it is, in columns."""

    @property
    def credential_id(self) -> str:
        """Its id."""

    @property
    def org_id(self) -> str:
        """Its organization."""

    @property
    def scope_type(self) -> str:
        """The level of its scope."""

    @property
    def scope_id(self) -> str:
        """Whose it is on that level."""

    @property
    def provider(self) -> str:
        """Which provider's it is."""

    @property
    def hint(self) -> str:
        """What may be shown of it."""


def scope_of(row: OfCredential) -> Scope:
    """Whose key the row is about."""
    return Scope(ScopeType(row.scope_type), row.scope_id)


def as_credential(row: OfCredential, active: Iterable[Interval]) -> Credential:
    """The row in the words of the domain."""
    return Credential(row.credential_id, row.org_id, scope_of(row), row.provider, tuple(active))


def binding_of(row: OfCredential, version: int) -> Binding:
    """What the row's secret is bound to."""
    return Binding(row.org_id, row.scope_type, row.scope_id, row.provider, row.credential_id, version)


def slot_id(session: Session, org_id: str, scope: Scope, provider: str) -> int:
    """The id of the slot, which is made if there is none."""
    values: dict[str, Any] = {
        "org_id": org_id,
        "scope_type": scope.type.value,
        "scope_id": scope.id,
        "provider": provider,
    }
    session.execute(insert(Slot).values(**values).on_conflict_do_nothing())
    return session.exec(select(Slot).filter_by(**values)).one().slot_id


def insert_credential(
    session: Session, row: CredentialRow, active: Interval, sealed: SealedSecret, check: Check | None
) -> None:
    """A new credential with its first interval and the first version of its secret, as its provider took it."""
    session.add(row)
    session.flush()
    session.add(
        CredentialInterval(
            credential_id=row.credential_id, slot_id=row.slot_id, active_from=active.start, active_to=active.end
        )
    )
    insert_version(session, row.credential_id, 1, sealed, row.created_at, check)


def credential_row(session: Session, credential_id: str) -> CredentialRow | None:
    """The credential as committed by now, whatever the session saw before."""
    return session.get(CredentialRow, credential_id, populate_existing=True)


def credentials_in(session: Session, org_id: str, scopes: Iterable[Scope], provider: str) -> list[Credential]:
    """All credentials there ever were for the provider in these scopes of the organization."""
    level, owner = col(CredentialRow.scope_type), col(CredentialRow.scope_id)
    in_scopes = or_(false(), *(and_(level == scope.type.value, owner == scope.id) for scope in scopes))
    found = select(CredentialRow).where(CredentialRow.org_id == org_id, CredentialRow.provider == provider, in_scopes)
    rows = session.exec(found.order_by(col(CredentialRow.created_seq))).all()
    active = intervals_of(session, rows)
    return [as_credential(row, active[row.credential_id]) for row in rows]


def intervals_of(session: Session, rows: Sequence[CredentialRow]) -> dict[str, tuple[Interval, ...]]:
    """When each of these credentials was active, in order of time."""
    ids = [row.credential_id for row in rows]
    found: defaultdict[str, list[Interval]] = defaultdict(list)
    if ids:
        statement = select(CredentialInterval).where(col(CredentialInterval.credential_id).in_(ids))
        for interval in session.exec(statement.order_by(col(CredentialInterval.active_from))):
            found[interval.credential_id].append(Interval(interval.active_from, interval.active_to))
    return {credential_id: tuple(found[credential_id]) for credential_id in ids}


def list_credentials(
    session: Session, wanted: CredentialFilter, surroundings: Surroundings, visible: Sight, after: int, limit: int
) -> Sequence[CredentialRow]:
    """What is wanted and visible, in the order in which it was added, beginning after the ``created_seq`` given."""
    statement = select(CredentialRow).where(
        CredentialRow.org_id == wanted.org_id, CredentialRow.created_seq > after, _within(visible)
    )
    if wanted.scope_type is not None:
        statement = statement.where(CredentialRow.scope_type == wanted.scope_type.value)
    if wanted.scope_id is not None:
        statement = statement.where(CredentialRow.scope_id == wanted.scope_id)
    if wanted.provider is not None:
        statement = statement.where(CredentialRow.provider == wanted.provider)
    if wanted.status is not None:
        statement = statement.where(_stands(wanted.status, surroundings))
    return session.exec(statement.order_by(col(CredentialRow.created_seq)).limit(limit)).all()


def _stands(status: Status, surroundings: Surroundings) -> ColumnElement[bool]:
    """The credentials that ``surroundings.standing`` gives this status."""
    if status is Status.DELETED:
        return col(CredentialRow.deleted_at).is_not(None)
    if status is Status.LOST:
        return _LOST
    if status is Status.DISABLED:
        return and_(col(CredentialRow.deleted_at).is_(None), _HELD, not_(_SWITCHED_ON))
    level, provider = col(CredentialRow.scope_type), col(CredentialRow.provider)
    shadowed = or_(
        provider.not_in(surroundings.own_key_providers),
        level.in_([level.value for level in ScopeType if not surroundings.plan.allows(level)]),
        and_(level != ScopeType.ORGANIZATION.value, provider.in_(surroundings.enforced_providers)),
    )
    return and_(_SWITCHED_ON, _HELD, shadowed if status is Status.SHADOWED else not_(shadowed))


def lost_credentials(session: Session) -> Sequence[str]:
    """The ids of those of all organizations whose secret is lost, in the order in which they were added."""
    return session.exec(select(CredentialRow.credential_id).where(_LOST).order_by(col(CredentialRow.created_seq))).all()


def _within(visible: Sight) -> ColumnElement[bool]:
    if visible.everything:
        return true()
    level = col(CredentialRow.scope_type)
    return or_(
        level == ScopeType.ORGANIZATION.value if visible.organization else false(),
        and_(level == ScopeType.TEAM.value, col(CredentialRow.scope_id).in_(visible.teams)),
        and_(level == ScopeType.PERSONAL.value, col(CredentialRow.scope_id) == visible.user),
    )


def switch_on(session: Session, row: CredentialRow, at: datetime) -> None:
    """Begin an interval at ``at``."""
    session.add(CredentialInterval(credential_id=row.credential_id, slot_id=row.slot_id, active_from=at))
    session.flush()


def switch_off(session: Session, row: CredentialRow, at: datetime) -> None:
    """End the open interval, if there is one, at ``at``; one that would only begin later is empty then."""
    of_row = update(CredentialInterval).where(col(CredentialInterval.credential_id) == row.credential_id)
    session.execute(
        of_row.where(col(CredentialInterval.active_to).is_(None)).values(
            active_to=func.greatest(at, col(CredentialInterval.active_from))
        )
    )


def touch(session: Session, credential_ids: Iterable[str], now: datetime, rest: timedelta) -> None:
    """Note that the keys were used, unless that was noted within ``rest`` or somebody is changing the row just now."""
    earlier = or_(col(CredentialRow.last_used_at).is_(None), col(CredentialRow.last_used_at) < now - rest)
    of_these = col(CredentialRow.credential_id).in_(list(credential_ids))
    due = select(CredentialRow.credential_id).where(of_these, earlier).with_for_update(skip_locked=True)
    this = update(CredentialRow).where(col(CredentialRow.credential_id).in_(due))
    session.execute(this.values(last_used_at=now), execution_options={"synchronize_session": False})


def organization_key_providers(session: Session, org_id: str) -> frozenset[str]:
    """The providers for which the organization has a key of its own that is switched on."""
    statement = select(CredentialRow.provider).where(
        CredentialRow.org_id == org_id, CredentialRow.scope_type == ScopeType.ORGANIZATION.value, _SWITCHED_ON
    )
    return frozenset(session.exec(statement))


def plans_of(session: Session, org_id: str) -> tuple[PlanPeriod, ...]:
    """The organization's plans in order of time; empty where none is known."""
    row = session.get(PlanHistoryRow, org_id, populate_existing=True)
    return () if row is None else periods_from_json(row.periods)


def plan_seq(session: Session, org_id: str) -> int:
    """The number of the last change of the organization's plan in the log; 0 before the first."""
    return session.exec(select(PlanHistoryRow.seq).where(PlanHistoryRow.org_id == org_id)).one_or_none() or 0


def save_plans(session: Session, history: PlanHistory, seq: int) -> None:
    """Put the history in place of what stood there."""
    values = {"periods": periods_to_json(history.plans), "seq": seq}
    statement = insert(PlanHistoryRow).values(org_id=history.org_id, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["org_id"], set_=values))


class CardShelf:
    """The published rate cards. Each is parsed once, because none is ever altered."""

    def __init__(self) -> None:
        self._parsed: dict[str, RateCard] = {}

    def cards(self, session: Session) -> tuple[RateCard, ...]:
        """All of them, in the order in which they come into force."""
        names = session.exec(select(RateCardRow.card).order_by(col(RateCardRow.seq))).all()
        self._read(session, names)
        return in_order(self._parsed[name] for name in names)

    def named(self, sessions: Sessions, names: Sequence[str]) -> tuple[RateCard, ...]:
        """These, given in the order in which they were published; a session is needed for those not read before."""
        if not self._parsed.keys() >= set(names):
            with sessions.begin() as session:
                self._read(session, names)
        return in_order(self._parsed[name] for name in names)

    def _read(self, session: Session, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._parsed:
                row = session.get_one(RateCardRow, name)
                self._parsed[name] = read_rate_card(row.card, row.effective_from, row.body)
