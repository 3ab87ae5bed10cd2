"""Keys at rest: envelope encryption with AES-256-GCM, and the ring of key-encryption keys (DESIGN decision 8).

Each version of a secret has a data key of its own, which the active key-encryption key (KEK) wraps. Both layers bind
whose key it is as associated data, so a row that is copied elsewhere does not decrypt. The format, version 1:

    data key     32 random bytes
    wrapped_key  AES-256-GCM(KEK, wrap_nonce, data key, associated data "wrap", KEK id and binding): 32 + 16 bytes
    ciphertext   AES-256-GCM(data key, nonce, UTF-8 of the secret, associated data "payload", "" and binding)

Nonces are 12 random bytes. Associated data is a fixed label and then each field as its length (4 bytes, big endian)
and its UTF-8, so that no two bindings run together to the same bytes.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from services.runtime.logs import logger
from services.runtime.settings import SettingsError

_log = logger(__name__)

FORMAT_VERSION = 1
_KEY_BYTES = 32
_NONCE_BYTES = 12
_LABEL = b"byok secret v1"
_FINGERPRINT_LABEL = b"byok fingerprint v1"


class UnusableSecret(Exception):
    """A stored secret cannot be decrypted; the message says why, without any part of it."""


class Binding(NamedTuple):
    """What a secret belongs to. A secret decrypts only together with the binding it was sealed with."""

    org_id: str
    scope_type: str
    scope_id: str
    provider: str
    credential_id: str
    version: int


class SealedSecret(NamedTuple):
    """One encrypted secret as it is stored; nothing in it is readable without the KEK."""

    format_version: int
    kek_id: str
    wrapped_key: bytes
    wrap_nonce: bytes
    ciphertext: bytes
    nonce: bytes


class Keyring:
    """The KEKs by id. New secrets are wrapped by the active one; all others still decrypt."""

    def __init__(self, active_id: str, keys: dict[str, bytes]) -> None:
        """Raises ValueError unless every key has 32 bytes and the active one is among them."""
        if active_id not in keys:
            raise ValueError("the active key is not among the keys")
        if any(len(key) != _KEY_BYTES for key in keys.values()):
            raise ValueError(f"every key must have {_KEY_BYTES} bytes")
        self.active_id = active_id
        self._keys = keys

    def __repr__(self) -> str:
        """Ids only."""
        return f"Keyring(active_id={self.active_id!r}, ids={self.ids!r})"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all KEKs on the ring."""
        return tuple(self._keys)

    def seal(self, secret: SecretStr, binding: Binding) -> SealedSecret:
        """Encrypt ``secret`` under a fresh data key, wrapped by the active KEK."""
        data_key, wrap_nonce, nonce = os.urandom(_KEY_BYTES), os.urandom(_NONCE_BYTES), os.urandom(_NONCE_BYTES)
        return SealedSecret(
            format_version=FORMAT_VERSION,
            kek_id=self.active_id,
            wrapped_key=AESGCM(self._keys[self.active_id]).encrypt(
                wrap_nonce, data_key, _associated_data("wrap", self.active_id, binding)
            ),
            wrap_nonce=wrap_nonce,
            ciphertext=AESGCM(data_key).encrypt(
                nonce, secret.get_secret_value().encode(), _associated_data("payload", "", binding)
            ),
            nonce=nonce,
        )

    def open(self, sealed: SealedSecret, binding: Binding) -> SecretStr:
        """Decrypt. Raises UnusableSecret when the KEK is missing, or anything was altered or belongs elsewhere."""
        if sealed.format_version != FORMAT_VERSION:
            raise UnusableSecret(f"unknown format version {sealed.format_version}")
        kek = self._keys.get(sealed.kek_id)
        if kek is None:
            raise UnusableSecret(f"the key-encryption key {sealed.kek_id} is not in the keyring")
        try:
            data_key = AESGCM(kek).decrypt(
                sealed.wrap_nonce, sealed.wrapped_key, _associated_data("wrap", sealed.kek_id, binding)
            )
            plain = AESGCM(data_key).decrypt(sealed.nonce, sealed.ciphertext, _associated_data("payload", "", binding))
        except (InvalidTag, ValueError):
            raise UnusableSecret("it does not decrypt: altered, or copied from elsewhere") from None
        return SecretStr(plain.decode())

    def fingerprint(self, secret: SecretStr, org_id: str) -> str:
        """By which equal keys of one organization are known, and by nobody without the KEK that it names.

        Bound to the organization, so that nothing tells that two customers use the same key.
        """
        derived = HKDF(SHA256(), _KEY_BYTES, salt=None, info=_FINGERPRINT_LABEL).derive(self._keys[self.active_id])
        message = _lengthened(org_id) + secret.get_secret_value().encode()
        return f"{self.active_id}:{hmac.new(derived, message, 'sha256').hexdigest()}"


def load_keyring(path: Path) -> Keyring:
    """The keyring in the JSON file ``{"active": id, "keys": {id: base64 of 32 bytes}}``.

    Raises SettingsError that says what is wrong, and never what a key is.
    """
    try:
        mode = path.stat().st_mode
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"BYOK_KEK_FILE: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise SettingsError(f"BYOK_KEK_FILE: {path} is not JSON") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        _log.warning("others may read the key-encryption keys; run chmod 600", file=str(path))
    try:
        return _parse_keyring(document)
    except ValueError as error:
        raise SettingsError(f"BYOK_KEK_FILE: {path}: {error}") from None


def _parse_keyring(document: Any) -> Keyring:
    active, keys = (document.get("active"), document.get("keys")) if isinstance(document, dict) else (None, None)
    if not isinstance(active, str) or not isinstance(keys, dict):
        raise ValueError('must be {"active": "<id>", "keys": {"<id>": "<32 bytes in base64>"}}')  # noqa: TRY004 - one kind of error for one kind of mistake
    return Keyring(active, {kek_id: _decoded(kek_id, key) for kek_id, key in keys.items()})


def _decoded(kek_id: str, key: Any) -> bytes:
    try:
        decoded = base64.b64decode(key, validate=True)
    except (TypeError, ValueError):
        raise ValueError(f"the key {kek_id} is not base64") from None
    if len(decoded) != _KEY_BYTES:
        raise ValueError(f"the key {kek_id} has not {_KEY_BYTES} bytes")
    return decoded


def _associated_data(layer: str, kek_id: str, binding: Binding) -> bytes:
    return _LABEL + b"".join(_lengthened(str(field)) for field in (layer, kek_id, *binding))


def _lengthened(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded
