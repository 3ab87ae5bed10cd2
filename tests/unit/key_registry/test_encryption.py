"""Keys at rest: they come back for their own row and no other, and the format is fixed for ever."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.key_registry.encryption import Binding, Keyring, SealedSecret, UnusableSecret, load_keyring
from services.runtime.settings import SettingsError

BINDING = Binding("acme", "team", "growth", "openai", "5b0d", 1)
RING = Keyring("kek-2", {"kek-1": b"1" * 32, "kek-2": b"2" * 32})
SECRET = SecretStr("sk-made-up-for-the-test")
SEALED = RING.seal(SECRET, BINDING)
BYTE_FIELDS = ("wrapped_key", "wrap_nonce", "ciphertext", "nonce")

# Written down once, made with AESGCM alone: whoever changes the format must read these rows as well.
KNOWN_ANSWER = SealedSecret(
    format_version=1,
    kek_id="kek-1",
    wrapped_key=bytes.fromhex(
        "fba5c070a4c06575e4939974c2016e9bd94a33c84332c3d254f50e3ca517485ffbbadac048c2f88a71e2bf42fca66295"
    ),
    wrap_nonce=b"w" * 12,
    ciphertext=bytes.fromhex("d4303a02db33c091464d04299e2ea508e36bb5e09168ff3dad7c345badbfdd"),
    nonce=b"n" * 12,
)


def associated(layer: str, kek_id: str) -> bytes:
    """The associated data, spelled out without the code under test."""
    fields = [layer, kek_id, "acme", "team", "growth", "openai", "5b0d", "1"]
    return b"byok secret v1" + b"".join(len(field).to_bytes(4, "big") + field.encode() for field in fields)


def test_the_format_is_fixed() -> None:
    assert RING.open(KNOWN_ANSWER, BINDING).get_secret_value() == "sk-known-answer"
    data_key = AESGCM(b"1" * 32).decrypt(b"w" * 12, KNOWN_ANSWER.wrapped_key, associated("wrap", "kek-1"))
    assert data_key == bytes(range(32))
    plain = AESGCM(data_key).decrypt(b"n" * 12, KNOWN_ANSWER.ciphertext, associated("payload", ""))
    assert plain == b"sk-known-answer"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=200))
def test_what_was_sealed_opens(key: str) -> None:
    sealed = RING.seal(SecretStr(key), BINDING)
    assert RING.open(sealed, BINDING).get_secret_value() == key
    assert key.encode() not in b"".join(getattr(sealed, field) for field in BYTE_FIELDS)


@given(st.sampled_from(BYTE_FIELDS), st.data())
def test_any_flipped_bit_is_noticed(field: str, data: st.DataObject) -> None:
    value = bytearray(getattr(SEALED, field))
    bit = data.draw(st.integers(0, 8 * len(value) - 1))
    value[bit // 8] ^= 1 << bit % 8
    with pytest.raises(UnusableSecret):
        RING.open(SEALED._replace(**{field: bytes(value)}), BINDING)


@given(st.sampled_from(BYTE_FIELDS), st.binary(max_size=64))
def test_any_other_bytes_are_noticed(field: str, value: bytes) -> None:
    if value != getattr(SEALED, field):
        with pytest.raises(UnusableSecret):
            RING.open(SEALED._replace(**{field: value}), BINDING)


@given(st.builds(Binding, *[st.text(max_size=4)] * 5, st.integers(1, 3)))
def test_another_binding_does_not_open(other: Binding) -> None:
    with pytest.raises(UnusableSecret):
        RING.open(SEALED, other)


@pytest.mark.parametrize("field", Binding._fields)
def test_each_field_is_bound(field: str) -> None:
    changed = 2 if field == "version" else "other"
    with pytest.raises(UnusableSecret):
        RING.open(SEALED, BINDING._replace(**{field: changed}))


def test_fields_do_not_run_together() -> None:
    with pytest.raises(UnusableSecret):
        RING.open(RING.seal(SECRET, BINDING), BINDING._replace(scope_id="growthopenai", provider=""))


def test_the_layers_cannot_be_exchanged_between_versions() -> None:
    other = RING.seal(SecretStr("sk-another-made-up-key"), BINDING)
    with pytest.raises(UnusableSecret):
        RING.open(SEALED._replace(wrapped_key=other.wrapped_key, wrap_nonce=other.wrap_nonce), BINDING)


def test_old_keys_still_open_and_a_missing_one_is_named() -> None:
    old = Keyring("kek-1", {"kek-1": b"1" * 32}).seal(SECRET, BINDING)
    assert RING.open(old, BINDING).get_secret_value() == SECRET.get_secret_value()
    with pytest.raises(UnusableSecret, match="kek-1"):
        Keyring("kek-2", {"kek-2": b"2" * 32}).open(old, BINDING)
    with pytest.raises(UnusableSecret, match="format version 2"):
        RING.open(SEALED._replace(format_version=2), BINDING)


def test_every_version_has_a_data_key_of_its_own() -> None:
    again = RING.seal(SECRET, BINDING)
    assert all(getattr(again, field) != getattr(SEALED, field) for field in BYTE_FIELDS)


def test_fingerprints_tell_equal_keys_within_an_organization_only() -> None:
    assert RING.fingerprint(SECRET, "acme") == RING.fingerprint(SECRET, "acme")
    assert RING.fingerprint(SECRET, "acme") != RING.fingerprint(SECRET, "other")
    assert RING.fingerprint(SECRET, "acme") != RING.fingerprint(SecretStr("sk-another"), "acme")


def test_nothing_shows_a_key() -> None:
    assert "1111" not in repr(RING)
    assert SECRET.get_secret_value() not in repr(RING.open(SEALED, BINDING))


def test_a_keyring_file(tmp_path: Path) -> None:
    path = tmp_path / "kek.json"
    key = base64.b64encode(b"1" * 32).decode()
    path.write_text(json.dumps({"active": "a", "keys": {"a": key, "b": key}}))
    assert load_keyring(path).ids == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must be"),
        ('{"active": "a"}', "must be"),
        ('{"active": "a", "keys": {}}', "active key"),
        ('{"active": "a", "keys": {"a": "c2hvcnQ="}}', "32 bytes"),
        ('{"active": "a", "keys": {"a": "not base64!"}}', "not base64"),
        ('{"active": "a", "keys": {"a": 7}}', "not base64"),
    ],
)
def test_a_keyring_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "kek.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message) as raised:
        load_keyring(path)
    assert "c2hvcnQ" not in str(raised.value)


def test_a_keyring_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_keyring(tmp_path / "none.json")
