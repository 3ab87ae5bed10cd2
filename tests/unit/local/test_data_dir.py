"""The data directory: secrets made once and private, and locks that tell owners from leftovers."""

from __future__ import annotations

import base64
import json
import subprocess
import time

import pytest

from services.local.data_dir import DataDir
from services.local.processes import StackError
from services.runtime.private_file import write_private
from tests.patience import PATIENCE_SECONDS


@pytest.fixture
def data(tmp_path):
    data = DataDir(tmp_path / "data")
    data.create()
    yield data
    data.unlock()


def mode(path) -> int:
    return path.stat().st_mode & 0o777


def test_passwords_are_random_made_once_and_added_to(data):
    first = data.passwords(["owner", "service"])
    assert len({*first.values()}) == 2
    assert data.passwords(["owner", "reader"]) | {"service": first["service"]} == data.passwords(["owner", "reader"])
    assert data.passwords(["owner"])["owner"] == first["owner"]


def test_lost_passwords_of_an_existing_database_are_never_replaced(data):
    data.postgres.mkdir()
    with pytest.raises(StackError, match=r"passwords\.json is missing"):
        data.passwords(["owner"])


def test_the_kek_file_has_the_documented_shape_and_stays_the_same(data):
    text = data.kek_file().read_text()
    content = json.loads(text)
    assert len(base64.b64decode(content["keys"][content["active"]], validate=True)) == 32
    assert data.kek_file().read_text() == text


def test_every_secret_is_ours_alone(data):
    data.passwords(["owner"])
    data.kek_file()
    assert {mode(file) for file in data.secrets.iterdir()} == {0o600}
    assert {mode(folder) for folder in (data.root, data.secrets, data.logs)} == {0o700}


def test_a_private_file_replaces_a_readable_one_and_leaves_no_scratch(tmp_path):
    file = tmp_path / "secret"
    file.write_text("old")
    file.chmod(0o644)
    write_private(file, "new")
    assert (file.read_text(), mode(file), list(tmp_path.iterdir())) == ("new", 0o600, [file])


def test_a_data_directory_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match="cannot be used"):
        DataDir(tmp_path / "file" / "data").create()


def test_a_second_owner_is_refused_until_the_first_lets_go(data):
    data.lock_as_owner()
    second = DataDir(data.root)
    with pytest.raises(StackError, match="another byok is running"):
        second.lock_as_owner()
    data.unlock()
    second.lock_as_owner()
    second.unlock()


def test_a_child_that_outlives_its_owner_keeps_the_next_one_waiting(data):
    assert data.try_lock_for_children()
    with subprocess.Popen(["sleep", "600"], pass_fds=data.inherited) as child:
        data.unlock()
        second = DataDir(data.root)
        second.lock_as_owner()
        assert not second.try_lock_for_children()
        child.kill()
        child.wait()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not second.try_lock_for_children():
        assert time.monotonic() < deadline
    second.unlock()
