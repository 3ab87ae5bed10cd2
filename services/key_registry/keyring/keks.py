"""Key-encryption keys (KEKs), which wrap the data keys of secrets: what is asked of them, and those held in memory.

Wherever they live, in a file, in the environment, or in a cloud's KMS, they are one ``KeyEncryptionKeys``; another
place is another class of this shape. Nothing else in the registry sees a KEK.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12
_MAC_LABEL = b"byok fingerprint v1"


class UnusableSecret(Exception):
    """A stored secret cannot be decrypted; the message says why, without any part of it."""


class WrappedKey(NamedTuple):
    """A data key as it is stored."""

    wrapped_key: bytes
    nonce: bytes


class KeyEncryptionKeys(Protocol):
    """Where KEKs are. Associated data must be given back as it was, or nothing unwraps."""

    @property
    def active_id(self) -> str:
        """The KEK that new data keys are wrapped with."""

    @property
    def ids(self) -> tuple[str, ...]:
        """All KEKs that can unwrap."""

    def now(self) -> KeyEncryptionKeys:
        """The same as they are at this moment, for several secrets at once."""

    def wrap(self, kek_id: str, data_key: bytes, associated_data: bytes) -> WrappedKey:
        """Encrypt a data key. Raises UnusableSecret where there is no such KEK."""

    def unwrap(self, kek_id: str, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """The data key. Raises UnusableSecret where there is no such KEK, or anything was altered."""

    def mac(self, kek_id: str, message: bytes) -> bytes:
        """32 bytes that nobody can derive without the KEK. Raises UnusableSecret where there is no such KEK."""


class HeldKeks:
    """KEKs in this process's memory."""

    def __init__(self, active_id: str, keys: Mapping[str, bytes]) -> None:
        """Raises ValueError unless every key has 32 bytes and the active one is among them."""
        if active_id not in keys:
            raise ValueError("the active key is not among the keys")
        if any(len(key) != KEY_BYTES for key in keys.values()):
            raise ValueError(f"every key must have {KEY_BYTES} bytes")
        self._active_id = active_id
        self._keys = dict(keys)

    def __repr__(self) -> str:
        """Ids only."""
        return f"HeldKeks(active_id={self.active_id!r}, ids={self.ids!r})"

    @property
    def active_id(self) -> str:
        """The KEK that new data keys are wrapped with."""
        return self._active_id

    @property
    def ids(self) -> tuple[str, ...]:
        """All KEKs that are held."""
        return tuple(self._keys)

    def now(self) -> HeldKeks:
        """They never change."""
        return self

    def wrap(self, kek_id: str, data_key: bytes, associated_data: bytes) -> WrappedKey:
        """AES-256-GCM under a fresh nonce. Raises UnusableSecret where there is no such KEK."""
        nonce = os.urandom(NONCE_BYTES)
        return WrappedKey(AESGCM(self._key(kek_id)).encrypt(nonce, data_key, associated_data), nonce)

    def unwrap(self, kek_id: str, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """The data key. Raises UnusableSecret where there is no such KEK, or anything was altered."""
        try:
            return AESGCM(self._key(kek_id)).decrypt(wrapped.nonce, wrapped.wrapped_key, associated_data)
        except (InvalidTag, ValueError):
            raise UnusableSecret("its data key does not decrypt: altered, or copied from elsewhere") from None

    def mac(self, kek_id: str, message: bytes) -> bytes:
        """HMAC-SHA-256 under a key derived from the KEK. Raises UnusableSecret where there is no such KEK."""
        derived = HKDF(SHA256(), KEY_BYTES, salt=None, info=_MAC_LABEL).derive(self._key(kek_id))
        return hmac.digest(derived, message, "sha256")

    def _key(self, kek_id: str) -> bytes:
        if kek_id not in self._keys:
            raise UnusableSecret(f"the key-encryption key {kek_id} is not in the keyring")
        return self._keys[kek_id]


def parse_keks(document: Any) -> HeldKeks:
    """The KEKs of a document ``{"active": id, "keys": {id: base64 of 32 bytes}}``.

    Raises ValueError that says what is wrong, and never what a key is.
    """
    active, keys = (document.get("active"), document.get("keys")) if isinstance(document, dict) else (None, None)
    if not isinstance(active, str) or not isinstance(keys, dict):
        raise ValueError('must be {"active": "<id>", "keys": {"<id>": "<32 bytes in base64>"}}')  # noqa: TRY004 - one kind of error for one kind of mistake
    return HeldKeks(active, {kek_id: _decoded(kek_id, key) for kek_id, key in keys.items()})


def _decoded(kek_id: str, key: Any) -> bytes:
    try:
        decoded = base64.b64decode(key, validate=True)
    except (TypeError, ValueError):
        raise ValueError(f"the key {kek_id} is not base64") from None
    if len(decoded) != KEY_BYTES:
        raise ValueError(f"the key {kek_id} has not {KEY_BYTES} bytes")
    return decoded
