"""Reads and writes of the registry's rows, in the words of the domain. Transactions are the handlers' business."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, false, or_, true
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from services.domain.directory import Credential, PlanHistory
from services.domain.rate_card import RateCard, parse_rate_card
from services.domain.scope import Interval, PlanPeriod, Scope, ScopeType
from services.key_registry.changes import periods_from_json, periods_to_json
from services.key_registry.encryption import Binding, SealedSecret
from services.key_registry.models import (
    CredentialInterval,
    CredentialRow,
    PlanHistoryRow,
    RateCardRow,
    SecretVersion,
    Slot,
)
from services.key_registry.policy import Sight

ACTIVE = "active"
REVOKED = "revoked"


class CredentialFilter(NamedTuple):
    """Which credentials of an organization a list holds; None does not narrow it down."""

    org_id: str
    scope_type: ScopeType | None = None
    scope_id: str | None = None
    provider: str | None = None
    status: str | None = None


def scope_of(row: CredentialRow) -> Scope:
    """Whose key the row is about."""
    return Scope(ScopeType(row.scope_type), row.scope_id)


def as_credential(row: CredentialRow, active: Iterable[Interval]) -> Credential:
    """The row in the words of the domain."""
    return Credential(row.credential_id, row.org_id, scope_of(row), row.provider, tuple(active))


def binding_of(row: CredentialRow, version: int) -> Binding:
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


def insert_credential(session: Session, row: CredentialRow, active: Interval, sealed: SealedSecret) -> None:
    """A new credential with its first interval and the first version of its secret."""
    session.add(row)
    session.flush()
    session.add(
        CredentialInterval(
            credential_id=row.credential_id, slot_id=row.slot_id, active_from=active.start, active_to=active.end
        )
    )
    session.add(
        SecretVersion(credential_id=row.credential_id, version=1, created_at=row.created_at, **sealed._asdict())
    )
    session.flush()


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
    session: Session, wanted: CredentialFilter, visible: Sight, after: int, limit: int
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
        statement = statement.where(CredentialRow.status == wanted.status)
    return session.exec(statement.order_by(col(CredentialRow.created_seq)).limit(limit)).all()


def _within(visible: Sight) -> ColumnElement[bool]:
    if visible.everything:
        return true()
    level = col(CredentialRow.scope_type)
    return or_(
        level == ScopeType.ORGANIZATION.value if visible.organization else false(),
        and_(level == ScopeType.TEAM.value, col(CredentialRow.scope_id).in_(visible.teams)),
        and_(level == ScopeType.PERSONAL.value, col(CredentialRow.scope_id) == visible.user),
    )


def end_credential(session: Session, row: CredentialRow, at: datetime) -> None:
    """Close the open interval at ``at`` and destroy every version of the secret; their rows remain."""
    row.status = REVOKED
    session.add(row)
    still_open = select(CredentialInterval).where(
        CredentialInterval.credential_id == row.credential_id, col(CredentialInterval.active_to).is_(None)
    )
    for interval in session.exec(still_open):
        interval.active_to = at
        session.add(interval)
    versions = select(SecretVersion).where(
        SecretVersion.credential_id == row.credential_id, col(SecretVersion.destroyed_at).is_(None)
    )
    for version in session.exec(versions):
        version.wrapped_key = version.wrap_nonce = version.ciphertext = version.nonce = None
        version.destroyed_at = at
        session.add(version)
    session.flush()


def newest_secret(session: Session, credential_id: str) -> tuple[int, SealedSecret] | None:
    """The newest version of the secret and its number; None where it is destroyed."""
    statement = select(SecretVersion).where(SecretVersion.credential_id == credential_id)
    row = session.exec(statement.order_by(col(SecretVersion.version).desc()).limit(1)).first()
    if row is None or row.wrapped_key is None or row.wrap_nonce is None or row.ciphertext is None or row.nonce is None:
        return None
    return row.version, SealedSecret(
        row.format_version, row.kek_id, row.wrapped_key, row.wrap_nonce, row.ciphertext, row.nonce
    )


def plans_of(session: Session, org_id: str) -> tuple[PlanPeriod, ...]:
    """The organization's plans in order of time; empty where none is known."""
    row = session.get(PlanHistoryRow, org_id, populate_existing=True)
    return () if row is None else periods_from_json(row.periods)


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
        names = session.exec(select(RateCardRow.card)).all()
        for name in names:
            if name not in self._parsed:
                row = session.get_one(RateCardRow, name)
                self._parsed[name] = parse_rate_card(row.card, row.effective_from, row.body)
        return tuple(sorted((self._parsed[name] for name in names), key=lambda card: card.effective_from))
