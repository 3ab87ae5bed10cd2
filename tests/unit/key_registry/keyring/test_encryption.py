"""Keys at rest: they come back for their own row and no other, and the format is fixed for ever."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.key_registry.keyring.envelopes import Binding, Keyring, SealedSecret, keyring_of, load_keyring
from services.key_registry.keyring.keks import HeldKeks, UnusableSecret
from services.key_registry.settings import KekSettings
from services.runtime.settings import SettingsError

BINDING = Binding("acme", "team", "growth", "openai", "5b0d", 1)
RING = Keyring(HeldKeks("kek-2", {"kek-1": b"1" * 32, "kek-2": b"2" * 32}))
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


# Rows that a release of 2026 wrote, with keys made up for it: every later release must still open them.
VECTORS = json.loads(Path(__file__).with_name("envelope-v1.json").read_text())
WRITTEN = [
    (SealedSecret(1, row["kek_id"], *(bytes.fromhex(row[field]) for field in BYTE_FIELDS)), Binding(*row["binding"]))
    for row in VECTORS["sealed"]
]


@pytest.mark.parametrize("number", range(len(WRITTEN)), ids=[row["what"] for row in VECTORS["sealed"]])
def test_what_was_written_in_version_1_still_opens(number: int) -> None:
    ring = Keyring(HeldKeks("kek-2", {kek_id: bytes.fromhex(key) for kek_id, key in VECTORS["keks"].items()}))
    sealed, binding = WRITTEN[number]
    assert ring.open(sealed, binding).get_secret_value() == VECTORS["sealed"][number]["secret"]
    moved = ring.rewrap(sealed, binding)
    assert (moved.kek_id, moved.ciphertext, moved.nonce) == ("kek-2", sealed.ciphertext, sealed.nonce)
    assert ring.open(moved, binding).get_secret_value() == VECTORS["sealed"][number]["secret"]


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=200))
def test_what_was_sealed_opens(key: str) -> None:
    sealed = RING.seal(SecretStr(key), BINDING)
    assert RING.open(sealed, BINDING).get_secret_value() == key
    assert key.encode() not in b"".join(getattr(sealed, field) for field in BYTE_FIELDS)


def altered(field: str, value: Any) -> SealedSecret:
    return SEALED._replace(**{field: value})


@given(st.sampled_from(BYTE_FIELDS), st.data())
def test_any_flipped_bit_is_noticed(field: str, data: st.DataObject) -> None:
    value = bytearray(getattr(SEALED, field))
    bit = data.draw(st.integers(0, 8 * len(value) - 1))
    value[bit // 8] ^= 1 << bit % 8
    with pytest.raises(UnusableSecret):
        RING.open(altered(field, bytes(value)), BINDING)


@given(st.sampled_from(BYTE_FIELDS), st.binary(max_size=64))
def test_any_other_bytes_are_noticed(field: str, value: bytes) -> None:
    if value != getattr(SEALED, field):
        with pytest.raises(UnusableSecret):
            RING.open(altered(field, value), BINDING)


@given(st.builds(Binding, *[st.text(max_size=4)] * 5, st.integers(1, 3)))
def test_another_binding_does_not_open(other: Binding) -> None:
    with pytest.raises(UnusableSecret):
        RING.open(SEALED, other)


@pytest.mark.parametrize("field", Binding._fields)
def test_each_field_is_bound(field: str) -> None:
    changed: Any = 2 if field == "version" else "other"
    with pytest.raises(UnusableSecret):
        RING.open(SEALED, BINDING._replace(**{field: changed}))


@given(st.sampled_from(BYTE_FIELDS), st.data())
def test_a_field_that_was_cut_off_is_noticed(field: str, data: st.DataObject) -> None:
    value = getattr(SEALED, field)
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(value))] * 2)))
    if (start, end) != (0, len(value)):
        with pytest.raises(UnusableSecret):
            RING.open(altered(field, value[start:end]), BINDING)


@given(st.permutations(BYTE_FIELDS))
def test_exchanged_fields_are_noticed(order: list[str]) -> None:
    if tuple(order) != BYTE_FIELDS:
        exchanged = {field: getattr(SEALED, of) for field, of in zip(BYTE_FIELDS, order, strict=True)}
        with pytest.raises(UnusableSecret):
            RING.open(SEALED._replace(**exchanged), BINDING)


OTHER_BINDING = BINDING._replace(credential_id="77aa", scope_id="sales")
OTHER = RING.seal(SecretStr("sk-another-made-up-key"), OTHER_BINDING)


@given(st.sets(st.sampled_from(BYTE_FIELDS), min_size=1), st.booleans())
def test_fields_of_another_row_are_noticed(fields: set[str], takes_binding: bool) -> None:
    mixed = SEALED._replace(**{field: getattr(OTHER, field) for field in fields})
    if takes_binding and fields == set(BYTE_FIELDS):
        assert RING.open(mixed, OTHER_BINDING).get_secret_value() == "sk-another-made-up-key"
    else:
        with pytest.raises(UnusableSecret):
            RING.open(mixed, OTHER_BINDING if takes_binding else BINDING)


def test_a_row_said_to_be_under_another_key_does_not_open() -> None:
    with pytest.raises(UnusableSecret):
        RING.open(SEALED._replace(kek_id="kek-1"), BINDING)
    same_key_other_name = Keyring(HeldKeks("kek-9", {"kek-9": b"2" * 32}))
    with pytest.raises(UnusableSecret):
        same_key_other_name.open(SEALED._replace(kek_id="kek-9"), BINDING)


@given(st.sampled_from(("wrapped_key", "wrap_nonce")), st.data())
def test_what_was_altered_is_not_wrapped_anew(field: str, data: st.DataObject) -> None:
    value = bytearray(getattr(SEALED, field))
    value[data.draw(st.integers(0, len(value) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UnusableSecret):
        RING.rewrap(altered(field, bytes(value)), BINDING)


def test_wrapping_anew_needs_the_old_key_and_its_own_row() -> None:
    old = Keyring(HeldKeks("kek-1", {"kek-1": b"1" * 32})).seal(SECRET, BINDING)
    assert RING.open(RING.rewrap(old, BINDING), BINDING).get_secret_value() == SECRET.get_secret_value()
    with pytest.raises(UnusableSecret, match="kek-1"):
        Keyring(HeldKeks("kek-2", {"kek-2": b"2" * 32})).rewrap(old, BINDING)
    with pytest.raises(UnusableSecret):
        RING.rewrap(old, OTHER_BINDING)


def test_fields_do_not_run_together() -> None:
    with pytest.raises(UnusableSecret):
        RING.open(RING.seal(SECRET, BINDING), BINDING._replace(scope_id="growthopenai", provider=""))


def test_the_layers_cannot_be_exchanged_between_versions() -> None:
    other = RING.seal(SecretStr("sk-another-made-up-key"), BINDING)
    with pytest.raises(UnusableSecret):
        RING.open(SEALED._replace(wrapped_key=other.wrapped_key, wrap_nonce=other.wrap_nonce), BINDING)


def test_old_keys_still_open_and_a_missing_one_is_named() -> None:
    old = Keyring(HeldKeks("kek-1", {"kek-1": b"1" * 32})).seal(SECRET, BINDING)
    assert RING.open(old, BINDING).get_secret_value() == SECRET.get_secret_value()
    with pytest.raises(UnusableSecret, match="kek-1"):
        Keyring(HeldKeks("kek-2", {"kek-2": b"2" * 32})).open(old, BINDING)
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


KEYS = json.dumps({"active": "a", "keys": {"a": base64.b64encode(b"1" * 32).decode()}})


def test_keys_from_the_environment(tmp_path: Path) -> None:
    ring = keyring_of(KekSettings(keks=SecretStr(KEYS)))
    assert ring.open(ring.seal(SECRET, BINDING), BINDING).get_secret_value() == SECRET.get_secret_value()
    for wrong, said in (
        ("{", "not JSON"),
        ("[]", "must be"),
        ('{"active": "a", "keys": {"a": "c2hvcnQ="}}', "32 bytes"),
    ):
        with pytest.raises(SettingsError, match=f"BYOK_KEKS.*{said}") as raised:
            keyring_of(KekSettings(keks=SecretStr(wrong)))
        assert "c2hvcnQ" not in str(raised.value)
    with pytest.raises(SettingsError, match="both"):
        keyring_of(KekSettings(keks=SecretStr(KEYS), kek_file=tmp_path / "kek.json"))
    with pytest.raises(SettingsError, match="BYOK_KEK_FILE is not set"):
        keyring_of(KekSettings())


def test_a_keyring_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_keyring(tmp_path / "none.json")
