"""Decrypting the key of a credential."""

from __future__ import annotations

from pydantic import SecretStr
from sqlmodel import Session

from services.key_registry.database import secrets as secret_rows
from services.key_registry.database.credentials import OfCredential, binding_of
from services.key_registry.database.secrets import StoredSecret
from services.key_registry.database.tables import CredentialRow
from services.key_registry.handlers.registry import Registry
from services.key_registry.keyring.envelopes import Keyring
from services.key_registry.keyring.keks import UnusableSecret
from services.key_registry.rules.refusals import Code
from services.runtime.logs import logger
from services.runtime.refusals import Refusal

_log = logger(__name__)


def current_secret(registry: Registry, session: Session, row: CredentialRow) -> tuple[int, SecretStr]:
    """The number of the version in use, and the key. Raises Refusal ``credential_unusable`` or ``credential_lost``."""
    stored = held(row, secret_rows.current_secret(session, row.credential_id))
    return stored.version, open_version(registry.keyring, row, stored)


def held(row: OfCredential, stored: StoredSecret | None) -> StoredSecret:
    """The version in use. Raises Refusal ``credential_lost`` where there is none."""
    if stored is None:
        _log.error("credential lost", credential_id=row.credential_id)
        raise Refusal(
            Code.CREDENTIAL_LOST,
            "There is a key, but its secret was lost with the registry's database: rotate it, or delete it.",
        )
    return stored


def open_version(keyring: Keyring, row: OfCredential, stored: StoredSecret) -> SecretStr:
    """The key in one version of it. Raises Refusal ``credential_unusable``."""
    try:
        return keyring.open(stored.sealed, binding_of(row, stored.version))
    except UnusableSecret as error:
        raise _unusable(row, str(error)) from None


def _unusable(row: OfCredential, why: str) -> Refusal:
    _log.error("credential unusable", credential_id=row.credential_id, why=why)
    return Refusal(Code.CREDENTIAL_UNUSABLE, "There is a key, but it cannot be decrypted at present.")
