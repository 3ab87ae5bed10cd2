"""The keyring file: running processes take in what changes, changes are whole, and none of them loses a key."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.key_registry.keyring.envelopes import Binding, load_keyring
from services.key_registry.keyring.kek_file import activate_kek, add_kek, remove_kek
from services.key_registry.keyring.keks import UnusableSecret
from services.runtime.private_file import write_private
from services.runtime.settings import SettingsError

BINDING = Binding("acme", "team", "growth", "openai", "5b0d", 1)
SECRET = SecretStr("sk-made-up-for-the-test")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kek.json"
    write_private(path, json.dumps({"active": "old", "keys": {"old": "MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE="}}))
    return path


def test_a_ring_in_use_takes_in_a_new_key(file: Path) -> None:
    writer, reader = load_keyring(file), load_keyring(file)
    before = writer.seal(SECRET, BINDING)
    new = add_kek(file, activate=True)
    after = writer.seal(SECRET, BINDING)
    assert (before.kek_id, after.kek_id) == ("old", new)
    for sealed in (before, after, writer.rewrap(before, BINDING)):
        assert reader.open(sealed, BINDING).get_secret_value() == SECRET.get_secret_value()


def test_a_staged_key_is_known_and_not_used_until_it_is_made_active(file: Path) -> None:
    ring = load_keyring(file)
    staged = add_kek(file, activate=False)
    assert (ring.active_id, ring.ids) == ("old", ("old", staged))
    activate_kek(file, staged)
    assert ring.active_id == staged
    with pytest.raises(SettingsError, match="has no key other"):
        activate_kek(file, "other")


def test_a_copy_that_was_not_replaced_refuses_and_says_which_key_is_missing(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    write_private(copy, file.read_text())
    stale = load_keyring(copy)
    new = add_kek(file, activate=True)
    sealed = load_keyring(file).seal(SECRET, BINDING)
    with pytest.raises(UnusableSecret, match=new):
        stale.open(sealed, BINDING)
    write_private(copy, file.read_text())
    assert stale.open(sealed, BINDING).get_secret_value() == SECRET.get_secret_value()


@pytest.mark.parametrize("broken", ["{", '{"active": "gone", "keys": {}}', None])
def test_a_file_that_breaks_leaves_the_keys_as_they_were(file: Path, broken: str | None) -> None:
    ring, good = load_keyring(file), file.read_text()
    sealed = ring.seal(SECRET, BINDING)
    if broken is None:
        file.unlink()
    else:
        file.write_text(broken)
    assert ring.open(sealed, BINDING).get_secret_value() == SECRET.get_secret_value()
    write_private(file, good)
    new = add_kek(file, activate=True)
    assert ring.active_id == new


def test_a_key_is_taken_out_unless_it_is_active(file: Path) -> None:
    new = add_kek(file, activate=True)
    with pytest.raises(SettingsError, match="is the active key"):
        remove_kek(file, new)
    with pytest.raises(SettingsError, match="has no key other"):
        remove_kek(file, "other")
    remove_kek(file, "old")
    assert load_keyring(file).ids == (new,)


def test_a_change_keeps_the_file_to_us_alone_and_leaves_nothing_beside_it(file: Path) -> None:
    add_kek(file, activate=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_a_link_goes_on_leading_to_the_file(file: Path) -> None:
    link = file.with_name("link.json")
    link.symlink_to(file)
    add_kek(link, activate=True)
    assert link.is_symlink()
    assert load_keyring(link).ids == load_keyring(file).ids


def test_a_broken_file_is_not_changed(file: Path) -> None:
    file.write_text('{"active": "old", "keys": {"old": "short"}}')
    with pytest.raises(SettingsError, match="old"):
        add_kek(file, activate=True)
    assert "short" in file.read_text()


def test_changes_at_the_same_time_lose_no_key(file: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        added = list(threads.map(lambda _: add_kek(file, activate=True), range(40)))
    assert set(load_keyring(file).ids) == {"old", *added}
