"""Keys at rest: envelope encryption with AES-256-GCM (docs/design.md, decision 8).

Each version of a secret has a data key of its own, which the active key-encryption key (KEK) wraps. Both layers bind
whose key it is as associated data, so a row that is copied elsewhere does not decrypt. The format, version 1:

    data key     32 random bytes
    wrapped_key  AES-256-GCM(KEK, wrap_nonce, data key, associated data "wrap", KEK id and binding): 32 + 16 bytes
    ciphertext   AES-256-GCM(data key, nonce, UTF-8 of the secret, associated data "payload", "" and binding)

Nonces are 12 random bytes. Associated data is a fixed label and then each field as its length (4 bytes, big endian)
and its UTF-8, so that no two bindings run together to the same bytes.
"""

from __future__ import annotations

import hmac
import json
import os
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from services.key_registry.keyring.kek_file import KekFile
from services.key_registry.keyring.keks import (
    KEY_BYTES,
    NONCE_BYTES,
    KeyEncryptionKeys,
    UnusableSecret,
    WrappedKey,
    parse_keks,
)
from services.key_registry.settings import KekSettings
from services.runtime.settings import SettingsError, not_set

FORMAT_VERSION = 1
_LABEL = b"byok secret v1"
# No fingerprint of a secret begins like this: it begins with a length of four bytes, and this would be 1.6 GB.
_MESSAGE_LABEL = b"byok message v1"


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
    """Seals and opens secrets with key-encryption keys, wherever those are."""

    def __init__(self, keks: KeyEncryptionKeys) -> None:
        self._keks = keks

    def __repr__(self) -> str:
        """Ids only."""
        return f"Keyring(active_id={self.active_id!r}, ids={self.ids!r})"

    @property
    def active_id(self) -> str:
        """The KEK that new secrets are under."""
        return self._keks.active_id

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all KEKs on the ring."""
        return self._keks.ids

    def now(self) -> Keyring:
        """The same with the KEKs as they are at this moment, for several secrets at once."""
        return Keyring(self._keks.now())

    def seal(self, secret: SecretStr, binding: Binding) -> SealedSecret:
        """Encrypt ``secret`` under a fresh data key, wrapped by the active KEK."""
        data_key, nonce, kek_id = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES), self.active_id
        plain = secret.get_secret_value().encode()
        ciphertext = AESGCM(data_key).encrypt(nonce, plain, _associated_data("payload", "", binding))
        wrapped = self._keks.wrap(kek_id, data_key, _associated_data("wrap", kek_id, binding))
        return SealedSecret(FORMAT_VERSION, kek_id, wrapped.wrapped_key, wrapped.nonce, ciphertext, nonce)

    def open(self, sealed: SealedSecret, binding: Binding) -> SecretStr:
        """Decrypt. Raises UnusableSecret when the KEK is missing, or anything was altered or belongs elsewhere."""
        data_key = self._data_key(sealed, binding)
        try:
            plain = AESGCM(data_key).decrypt(sealed.nonce, sealed.ciphertext, _associated_data("payload", "", binding))
        except (InvalidTag, ValueError):
            raise UnusableSecret("it does not decrypt: altered, or copied from elsewhere") from None
        return SecretStr(plain.decode())

    def rewrap(self, sealed: SealedSecret, binding: Binding) -> SealedSecret:
        """The same secret with its data key under the active KEK. The secret itself is not decrypted.

        Raises UnusableSecret when the KEK is missing, or the data key was altered or belongs elsewhere.
        """
        data_key, kek_id = self._data_key(sealed, binding), self.active_id
        wrapped = self._keks.wrap(kek_id, data_key, _associated_data("wrap", kek_id, binding))
        return sealed._replace(kek_id=kek_id, wrapped_key=wrapped.wrapped_key, wrap_nonce=wrapped.nonce)

    def fingerprint(self, secret: SecretStr, org_id: str) -> str:
        """By which equal keys of one organization are known, and by nobody without the KEK that it names.

        Bound to the organization, so that nothing tells that two customers use the same key.
        """
        kek_id = self.active_id
        message = _lengthened(org_id) + secret.get_secret_value().encode()
        return f"{kek_id}:{self._keks.mac(kek_id, message).hex()}"

    def mac(self, message: bytes) -> str:
        """By which equal messages are known, and by nobody without the KEK that it names."""
        kek_id = self.active_id
        return f"{kek_id}:{self._keks.mac(kek_id, _MESSAGE_LABEL + message).hex()}"

    def is_mac_of(self, mac: str, message: bytes) -> bool:
        """Whether ``mac`` was made of this message; no longer known once its KEK is gone."""
        kek_id, _, digest = mac.rpartition(":")
        try:
            return hmac.compare_digest(self._keks.mac(kek_id, _MESSAGE_LABEL + message).hex(), digest)
        except UnusableSecret:
            return False

    def _data_key(self, sealed: SealedSecret, binding: Binding) -> bytes:
        if sealed.format_version != FORMAT_VERSION:
            raise UnusableSecret(f"unknown format version {sealed.format_version}")
        wrapped = WrappedKey(sealed.wrapped_key, sealed.wrap_nonce)
        return self._keks.unwrap(sealed.kek_id, wrapped, _associated_data("wrap", sealed.kek_id, binding))


def load_keyring(path: Path) -> Keyring:
    """The keyring in the JSON file ``{"active": id, "keys": {id: base64 of 32 bytes}}``, as it changes.

    Raises SettingsError that says what is wrong, and never what a key is.
    """
    return Keyring(KekFile(path))


def keyring_of(settings: KekSettings) -> Keyring:
    """The keyring in BYOK_KEK_FILE, or in BYOK_KEKS. Raises SettingsError."""
    if settings.keks is None:
        if settings.kek_file is None:
            raise not_set("kek_file")
        return load_keyring(settings.kek_file)
    if settings.kek_file is not None:
        raise SettingsError("BYOK_KEK_FILE and BYOK_KEKS are both set; which of them holds the keys?")
    try:
        return Keyring(parse_keks(json.loads(settings.keks.get_secret_value())))
    except json.JSONDecodeError:
        raise SettingsError("BYOK_KEKS is not JSON") from None
    except ValueError as error:
        raise SettingsError(f"BYOK_KEKS: {error}") from None


def _associated_data(layer: str, kek_id: str, binding: Binding) -> bytes:
    return _LABEL + b"".join(_lengthened(str(field)) for field in (layer, kek_id, *binding))


def _lengthened(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded
