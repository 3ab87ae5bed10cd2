"""Putting another key in a credential's place, and taking that back. The credential, its id and its intervals stay."""

from __future__ import annotations

import hmac
from typing import NamedTuple

from pydantic import SecretStr
from sqlmodel import Session

from services.domain.permissions import Action, Caller
from services.key_registry.audit.trail import Event
from services.key_registry.database import credentials as repository
from services.key_registry.database import secrets as secret_rows
from services.key_registry.database.secrets import Check
from services.key_registry.database.tables import CredentialRow
from services.key_registry.handlers.editing import Editing, editing
from services.key_registry.handlers.once import Once, once_by
from services.key_registry.handlers.refusals import refusals_audited, unknown_credential
from services.key_registry.handlers.registry import Registry
from services.key_registry.handlers.secrets import current_secret, open_version
from services.key_registry.handlers.verification import verdict_detail
from services.key_registry.handlers.views import CredentialView, require, require_undeleted, visible
from services.key_registry.keyring.envelopes import SealedSecret
from services.key_registry.log.changes import hint
from services.key_registry.log.outbox import log_time
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
    verdict: Verdict | None = None
    while True:
        with registry.sessions.begin() as session:
            seen = visible(session, caller, credential_id)
            require(caller, seen, Action.ROTATE)
            if (answered := once.answer(session)) is not None:
                return answered
            _check_rotation(registry, session, seen, secret, expected)
            version = secret_rows.newest_version(session, credential_id) + 1
        verdict = verdict or _verdict(registry, seen, secret)
        new = _NewKey(version, registry.keyring.seal(secret, repository.binding_of(seen, version)), verdict)
        shown = _shown(registry, seen, secret)
        with editing(registry, caller, credential_id, Action.ROTATE) as edit:
            # Asked again, now that nobody else can answer or rotate.
            if (answered := once.answer(edit.session)) is not None:
                return answered
            # Else somebody has changed it since we looked, and it is looked at anew.
            rotated = _rotate(edit, new, shown, once) if edit.row.revision == seen.revision else None
        if rotated is not None:
            _log.info("credential rotated", credential_id=credential_id, org_id=rotated.org_id)
            return rotated


@refusals_audited(Event.UNDO_ROTATION, unknown_credential)
def undo_rotation(registry: Registry, caller: Caller, credential_id: str, expected: Expected = ANY) -> CredentialView:
    """Use the key before the last rotation again, and destroy the one that was rotated in."""
    restored: CredentialView | None = None
    while restored is None:
        with registry.sessions.begin() as session:
            seen = visible(session, caller, credential_id)
            require(caller, seen, Action.ROTATE)
            stored = secret_rows.previous_secret(session, credential_id, log_time(session))
        # That it decrypts is seen before the other one is destroyed.
        shown = None if stored is None else _shown(registry, seen, open_version(registry.keyring, seen, stored))
        with editing(registry, caller, credential_id, Action.ROTATE) as edit:
            _require_restorable(edit, expected)
            if shown is not None and edit.row.revision == seen.revision:
                secret_rows.restore_previous(edit.session, credential_id, edit.log.now)
                _show(edit, shown)
                restored = edit.view()
                edit.note(Event.UNDO_ROTATION)
    _log.info("rotation undone", credential_id=credential_id, org_id=restored.org_id)
    return restored


class _NewKey(NamedTuple):
    """The version to come, and what the provider said of it."""

    version: int
    sealed: SealedSecret
    verdict: Verdict


class _Shown(NamedTuple):
    """What is shown of a key, and by what an equal one is known."""

    hint: str
    fingerprint: str


def _shown(registry: Registry, row: CredentialRow, secret: SecretStr) -> _Shown:
    return _Shown(hint(secret.get_secret_value()), registry.keyring.fingerprint(secret, row.org_id))


def _verdict(registry: Registry, row: CredentialRow, secret: SecretStr) -> Verdict:
    verdict = registry.checks.check(row.provider, secret)
    if verdict.result is Result.INVALID:
        detail = "The provider does not take this key; the one in use was left in its place."
        raise Refusal(Code.KEY_INVALID, detail, field="api_key")
    return verdict


def _require_restorable(edit: Editing, expected: Expected) -> None:
    expected.require(edit.row.revision)
    require_undeleted(edit.row)
    if secret_rows.previous_secret(edit.session, edit.row.credential_id, edit.log.now) is None:
        raise Refusal(Code.NOTHING_TO_UNDO, "There is no key to go back to: none was rotated, or its time is over.")


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


def _rotate(edit: Editing, new: _NewKey, shown: _Shown, once: Once) -> CredentialView:
    credential_id, now = edit.row.credential_id, edit.log.now
    secret_rows.retire_current(edit.session, credential_id, now, now + edit.registry.rotation_undo)
    check = Check(new.verdict.result, new.verdict.reason, log_time(edit.session))
    secret_rows.insert_version(edit.session, credential_id, new.version, new.sealed, now, check)
    _show(edit, shown)
    rotated = edit.view()
    once.keep(edit.session, rotated)
    edit.note(Event.ROTATE, verdict_detail(check))
    return rotated


def _show(edit: Editing, shown: _Shown) -> None:
    """Say of the credential what is shown of its new key, in the log too."""
    edit.row.hint, edit.row.fingerprint = shown
    edit.save()
    edit.append_history()
