"""Putting another key in a credential's place, and taking that back. The credential, its id and its intervals stay."""

from __future__ import annotations

import hmac

from pydantic import SecretStr
from sqlmodel import Session

from services.domain.permissions import Action, Caller
from services.key_registry.audit import trail as audit
from services.key_registry.audit.trail import Entry, Event
from services.key_registry.database import credentials as repository
from services.key_registry.database import secrets as secret_rows
from services.key_registry.database.secrets import Check
from services.key_registry.database.tables import CredentialRow
from services.key_registry.handlers.once import Once, once_by
from services.key_registry.handlers.refusals import refusals_audited, unknown_credential
from services.key_registry.handlers.registry import Registry
from services.key_registry.handlers.secrets import current_secret, open_version
from services.key_registry.handlers.verification import verdict_detail
from services.key_registry.handlers.views import (
    CredentialView,
    require,
    require_undeleted,
    subject_of,
    take,
    view,
    visible,
)
from services.key_registry.log.changes import credential_change, hint
from services.key_registry.log.outbox import LogWriter, log_time
from services.key_registry.providers.probes import Result, Verdict
from services.key_registry.rules.preconditions import ANY, Expected
from services.key_registry.rules.refusals import Code
from services.runtime.logs import logger
from services.runtime.refusals import Refusal

_log = logger(__name__)


@refusals_audited(Event.ROTATE, unknown_credential)
def rotate_credential(
    registry: Registry,
    caller: Caller,
    credential_id: str,
    secret: SecretStr,
    expected: Expected = ANY,
    idempotency_key: str | None = None,
) -> CredentialView:
    """Use ``secret`` from now on. The key before it can be brought back for a while, and is then destroyed.

    The provider is asked first, with no transaction open; only if it refuses the key is the rotation refused
    (``key_invalid``). What it said otherwise is in the answer.
    """
    once = once_by(registry.keyring, caller, idempotency_key, "rotate", credential_id, secret.get_secret_value())
    with registry.sessions.begin() as session:
        row = visible(session, caller, credential_id)
        require(caller, row, Action.ROTATE)
        if (answered := once.answer(session)) is not None:
            return answered
        _check_rotation(registry, session, row, secret, expected)
    verdict = registry.checks.check(row.provider, secret)
    if verdict.result is Result.INVALID:
        detail = "The provider does not take this key; the one in use was left in its place."
        raise Refusal(Code.KEY_INVALID, detail, field="api_key")
    with registry.sessions.begin() as session:
        row = visible(session, caller, credential_id)
        log = take(session, row)
        # Asked again, now that nobody else can answer or rotate.
        if (answered := once.answer(session)) is not None:
            return answered
        _check_rotation(registry, session, row, secret, expected)
        rotated = _rotate(registry, session, log, row, caller, secret, verdict, once)
    _log.info("credential rotated", credential_id=credential_id, org_id=row.org_id)
    return rotated


@refusals_audited(Event.UNDO_ROTATION, unknown_credential)
def undo_rotation(registry: Registry, caller: Caller, credential_id: str, expected: Expected = ANY) -> CredentialView:
    """Use the key before the last rotation again, and destroy the one that was rotated in."""
    with registry.sessions.begin() as session:
        row = visible(session, caller, credential_id)
        require(caller, row, Action.ROTATE)
        log = take(session, row)
        expected.require(row.revision)
        require_undeleted(row)
        stored = secret_rows.previous_secret(session, credential_id, log.now)
        if stored is None:
            raise Refusal(Code.NOTHING_TO_UNDO, "There is no key to go back to: none was rotated, or its time is over.")
        # That it decrypts is seen before the other one is destroyed.
        secret = open_version(registry, row, stored)
        secret_rows.restore_previous(session, credential_id, log.now)
        _show(registry, session, log, row, secret)
        restored = view(registry, session, row, caller, log.now)
        audit.append(session, Entry(caller, Event.UNDO_ROTATION, subject_of(row)))
    _log.info("rotation undone", credential_id=credential_id, org_id=row.org_id)
    return restored


def _check_rotation(
    registry: Registry, session: Session, row: CredentialRow, secret: SecretStr, expected: Expected
) -> None:
    expected.require(row.revision)
    require_undeleted(row)
    if _is_in_use(registry, session, row, secret):
        # Taken for a rotation, it would destroy the key before it: a retry would leave no way back.
        raise Refusal(Code.KEY_UNCHANGED, "This is the key in use already.", field="api_key")


def _is_in_use(registry: Registry, session: Session, row: CredentialRow, secret: SecretStr) -> bool:
    try:
        _, current = current_secret(registry, session, row)
    except Refusal:
        # A key that cannot be decrypted any more is a good reason to rotate.
        return False
    return hmac.compare_digest(current.get_secret_value().encode(), secret.get_secret_value().encode())


def _rotate(
    registry: Registry,
    session: Session,
    log: LogWriter,
    row: CredentialRow,
    caller: Caller,
    secret: SecretStr,
    verdict: Verdict,
    once: Once,
) -> CredentialView:
    version = secret_rows.newest_version(session, row.credential_id) + 1
    sealed = registry.keyring.seal(secret, repository.binding_of(row, version))
    secret_rows.retire_current(session, row.credential_id, log.now, log.now + registry.rotation_undo)
    check = Check(verdict.result, verdict.reason, log_time(session))
    secret_rows.insert_version(session, row.credential_id, version, sealed, log.now, check)
    _show(registry, session, log, row, secret)
    rotated = view(registry, session, row, caller, log.now)
    once.keep(session, rotated)
    audit.append(session, Entry(caller, Event.ROTATE, subject_of(row), verdict_detail(check)))
    return rotated


def _show(registry: Registry, session: Session, log: LogWriter, row: CredentialRow, secret: SecretStr) -> None:
    """Say of the credential what is shown of its new key, in the log too."""
    row.hint = hint(secret.get_secret_value())
    row.fingerprint = registry.keyring.fingerprint(secret, row.org_id)
    row.revision += 1
    session.add(row)
    session.flush()
    credential = repository.as_credential(row, repository.intervals_of(session, [row])[row.credential_id])
    log.append(credential_change(log.next_seq, log.now, credential, row.hint))
