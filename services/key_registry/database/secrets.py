"""Reads and writes of the versions of secrets: of a credential one is current; the one before it can be restored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Update, and_, func, tuple_
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select, update

from services.key_registry.database.tables import CredentialRow, SecretVersion
from services.key_registry.keyring.envelopes import SealedSecret
from services.key_registry.rules.health import Health, Outcome

_SWEPT_MAX = 1_000
# Everything from which the key could be had.
_BYTES_GONE = {"wrapped_key": None, "wrap_nonce": None, "ciphertext": None, "nonce": None}


class StoredSecret(NamedTuple):
    """A version of a secret, and its number, which it is bound to."""

    version: int
    sealed: SealedSecret


class Check(NamedTuple):
    """What the provider said of a key when it was asked last."""

    result: str
    reason: str
    checked_at: datetime


class SecretState(NamedTuple):
    """What may be known of a credential's secrets: the last check of the current one and how it fares; until when one
    can go back."""

    check: Check | None = None
    undo_until: datetime | None = None
    held: bool = False
    """Whether there is a current one at all."""
    health: Health | None = None


class KeyInUse(NamedTuple):
    """Since when the current version is in use, and how it fared."""

    since: datetime
    health: Health | None


def insert_version(
    session: Session, credential_id: str, version: int, sealed: SealedSecret, at: datetime, check: Check | None = None
) -> None:
    """A version that is current from now on; the one before it must have been retired or destroyed."""
    row = SecretVersion(credential_id=credential_id, version=version, created_at=at, **sealed._asdict())
    if check is not None:
        row.check_result, row.check_reason, row.checked_at = check
    session.add(row)
    session.flush()


def current_secret(session: Session, credential_id: str) -> StoredSecret | None:
    """The version in use; None where it is destroyed."""
    return _stored(session, _current(credential_id))


def previous_secret(session: Session, credential_id: str, now: datetime) -> StoredSecret | None:
    """The version that can still be brought back; None where there is none. Until the commit no sweep takes it."""
    restorable = and_(_previous(credential_id), col(SecretVersion.restorable_until) > now)
    return _stored(session, restorable, lock=True)


def newest_version(session: Session, credential_id: str) -> int:
    """The highest number that a version of the secret ever had; 0 where all of them are lost."""
    found = select(func.max(SecretVersion.version)).where(SecretVersion.credential_id == credential_id)
    newest: int | None = session.exec(found).one()
    return newest or 0


def retire_current(session: Session, credential_id: str, at: datetime, until: datetime) -> None:
    """Keep the current version until ``until``, and destroy the one before it, which can be brought back no more."""
    destroy(session, _previous(credential_id), at)
    if until > at:
        session.execute(update(SecretVersion).where(_current(credential_id)).values(restorable_until=until))
    else:
        destroy(session, _current(credential_id), at)


def restore_previous(session: Session, credential_id: str, at: datetime) -> None:
    """Put the version before the current one in its place, and destroy the current one.

    Raises LookupError where there is none; then the transaction must not be committed.
    """
    destroy(session, _current(credential_id), at)
    restored = update(SecretVersion).where(_previous(credential_id)).values(restorable_until=None, restored_at=at)
    if _count(session, restored) != 1:
        raise LookupError("there is no version to restore")


def destroy_all(session: Session, credential_id: str, at: datetime) -> None:
    """Destroy every version of a credential's secret; their rows remain."""
    destroy(session, col(SecretVersion.credential_id) == credential_id, at)


def destroy_expired(session: Session) -> int:
    """Destroy what can be brought back no more; how many there were.

    What somebody is working with is left for the next time, so that this waits for nobody and nobody is in its way.
    """
    key = (col(SecretVersion.credential_id), col(SecretVersion.version))
    due = select_columns(*key).where(
        col(SecretVersion.restorable_until) <= func.clock_timestamp(), col(SecretVersion.destroyed_at).is_(None)
    )
    free = due.limit(_SWEPT_MAX).with_for_update(skip_locked=True)
    return destroy(session, tuple_(*key).in_(free), func.clock_timestamp())


def destroy(session: Session, which: ColumnElement[bool], at: object) -> int:
    """Destroy the versions that are not yet; how many there were. ``at`` is a time or an expression of one."""
    statement = update(SecretVersion).where(which, col(SecretVersion.destroyed_at).is_(None))
    return _count(session, statement.values(destroyed_at=at, **_BYTES_GONE))


def store_check(session: Session, credential_id: str, version: int, check: Check) -> None:
    """Keep what the provider said of this version."""
    this = update(SecretVersion).where(
        col(SecretVersion.credential_id) == credential_id, col(SecretVersion.version) == version
    )
    values = {"check_result": check.result, "check_reason": check.reason, "checked_at": check.checked_at}
    session.execute(this.values(values))


def key_in_use(session: Session, credential_id: str, *, lock: bool = False) -> KeyInUse | None:
    """What runners said of the version in use; None where there is none. With ``lock`` it stays so until the commit."""
    columns = select_columns(
        func.coalesce(col(SecretVersion.restored_at), col(SecretVersion.created_at)),
        col(SecretVersion.health_outcome),
        col(SecretVersion.health_at),
        col(SecretVersion.health_detail),
    ).where(_current(credential_id))
    row = session.execute(columns.with_for_update() if lock else columns).first()
    return None if row is None else KeyInUse(row[0], _health(*row[1:]))


def store_health(session: Session, credential_id: str, health: Health) -> None:
    """Keep how the version in use fared."""
    values = {"health_outcome": health.outcome, "health_at": health.at, "health_detail": health.detail}
    this = update(SecretVersion).where(_current(credential_id)).values(values)
    session.execute(this, execution_options={"synchronize_session": False})


def states_of(session: Session, rows: Sequence[CredentialRow], now: datetime) -> dict[str, SecretState]:
    """What may be known of the secrets of these credentials."""
    states = {row.credential_id: SecretState() for row in rows}
    # Not whole rows: ciphertexts are of no use here.
    columns = select_columns(
        col(SecretVersion.credential_id),
        col(SecretVersion.restorable_until),
        col(SecretVersion.check_result),
        col(SecretVersion.check_reason),
        col(SecretVersion.checked_at),
        col(SecretVersion.health_outcome),
        col(SecretVersion.health_at),
        col(SecretVersion.health_detail),
    ).where(col(SecretVersion.credential_id).in_(states), col(SecretVersion.destroyed_at).is_(None))
    for credential_id, until, result, reason, checked_at, *reported in session.execute(columns):
        if until is None:
            check = None if result is None else Check(result, reason, checked_at)
            states[credential_id] = states[credential_id]._replace(check=check, held=True, health=_health(*reported))
        elif until > now:
            states[credential_id] = states[credential_id]._replace(undo_until=until)
    return states


def _health(outcome: str | None, at: datetime | None, detail: str | None) -> Health | None:
    return None if outcome is None or at is None else Health(Outcome(outcome), at, detail)


def _current(credential_id: str) -> ColumnElement[bool]:
    return and_(
        col(SecretVersion.credential_id) == credential_id,
        col(SecretVersion.restorable_until).is_(None),
        col(SecretVersion.destroyed_at).is_(None),
    )


def _previous(credential_id: str) -> ColumnElement[bool]:
    return and_(
        col(SecretVersion.credential_id) == credential_id,
        col(SecretVersion.restorable_until).is_not(None),
        col(SecretVersion.destroyed_at).is_(None),
    )


def _count(session: Session, statement: Update) -> int:
    """How many rows the statement changed. What the session holds of them is read anew by whoever needs it."""
    return session.execute(statement, execution_options={"synchronize_session": False}).rowcount  # type: ignore[attr-defined, no-any-return]


def _stored(session: Session, which: ColumnElement[bool], *, lock: bool = False) -> StoredSecret | None:
    found = select(SecretVersion).where(which).execution_options(populate_existing=True)
    row = session.exec(found.with_for_update() if lock else found).first()
    if row is None or row.wrapped_key is None or row.wrap_nonce is None or row.ciphertext is None or row.nonce is None:
        return None
    sealed = SealedSecret(row.format_version, row.kek_id, row.wrapped_key, row.wrap_nonce, row.ciphertext, row.nonce)
    return StoredSecret(row.version, sealed)
