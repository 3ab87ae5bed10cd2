"""The keyring file: KEKs that a running process takes in as the file changes, and the changes themselves.

A change replaces the file whole. Who reads the same file therefore knows a new KEK before anybody can have used it; a
process with a copy of its own refuses what it cannot open until its copy is replaced as well.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.key_registry.keyring.keks import KEY_BYTES, HeldKeks, WrappedKey, parse_keks
from services.runtime.logs import logger
from services.runtime.private_file import warn_of_readers, write_private
from services.runtime.settings import SettingsError

_log = logger(__name__)

_Stamp = tuple[int, int, int] | None


class KekFile:
    """The KEKs in a file, as it is now; as it last was, while it cannot be read."""

    def __init__(self, path: Path) -> None:
        """Raises SettingsError that says what is wrong with the file, and never what a key is."""
        self._path = path
        self._lock = threading.Lock()
        self._stamp = _stamp(path)
        self._held = _read(path)

    @property
    def active_id(self) -> str:
        """The KEK that new data keys are wrapped with."""
        return self.now().active_id

    @property
    def ids(self) -> tuple[str, ...]:
        """All KEKs in the file."""
        return self.now().ids

    def now(self) -> HeldKeks:
        """The KEKs in the file at this moment."""
        # Asking the file system takes microseconds; a KEK that another process has just begun to use is never missed.
        with self._lock:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._stamp = stamp
                self._take_in()
            return self._held

    def wrap(self, kek_id: str, data_key: bytes, associated_data: bytes) -> WrappedKey:
        """See ``HeldKeks``."""
        return self.now().wrap(kek_id, data_key, associated_data)

    def unwrap(self, kek_id: str, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """See ``HeldKeks``."""
        return self.now().unwrap(kek_id, wrapped, associated_data)

    def mac(self, kek_id: str, message: bytes) -> bytes:
        """See ``HeldKeks``."""
        return self.now().mac(kek_id, message)

    def _take_in(self) -> None:
        try:
            self._held = _read(self._path)
        except SettingsError as error:
            _log.error("the keyring changed and cannot be read; the one before is used", detail=str(error))
        else:
            _log.info("the keyring changed", active=self._held.active_id, ids=list(self._held.ids))


def add_kek(path: Path, *, activate: bool) -> str:
    """Put a new random KEK into the file, and its id out. With ``activate`` new secrets are under it from now on.

    Raises SettingsError where the file cannot be read or written.
    """
    kek_id = f"kek-{secrets.token_hex(4)}"
    with _changed(path) as document:
        document["keys"][kek_id] = base64.b64encode(os.urandom(KEY_BYTES)).decode()
        if activate:
            document["active"] = kek_id
    return kek_id


def activate_kek(path: Path, kek_id: str) -> None:
    """New secrets are under this KEK from now on. Raises SettingsError where it is not in the file."""
    with _changed(path) as document:
        if kek_id not in document["keys"]:
            raise SettingsError(f"BYOK_KEK_FILE: {path} has no key {kek_id}")
        document["active"] = kek_id


def remove_kek(path: Path, kek_id: str) -> None:
    """Take a KEK out of the file. Raises SettingsError where it is the active one, or not in the file."""
    with _changed(path) as document:
        if kek_id == document["active"]:
            raise SettingsError(f"BYOK_KEK_FILE: {kek_id} is the active key; make another one active first")
        if document["keys"].pop(kek_id, None) is None:
            raise SettingsError(f"BYOK_KEK_FILE: {path} has no key {kek_id}")


@contextmanager
def _changed(path: Path) -> Iterator[dict[str, Any]]:
    # A link is followed, so that it goes on leading to the file.
    path = path.resolve()
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Two changes at once would lose one of them, and with it, sooner or later, secrets.
            fcntl.flock(folder, fcntl.LOCK_EX)
            _read(path)
            found = path.stat()
            if os.geteuid() not in (0, found.st_uid):
                raise SettingsError(f"BYOK_KEK_FILE: {path} belongs to another user, who must run this command")
            document: dict[str, Any] = json.loads(path.read_bytes())
            yield document
            # Root leaves it to the account that the registry runs as.
            owner = (found.st_uid, found.st_gid) if os.geteuid() == 0 else None
            write_private(path, json.dumps(document, indent=2), owner)
        finally:
            os.close(folder)
    except OSError as error:
        raise SettingsError(f"BYOK_KEK_FILE: {path} cannot be changed: {error.strerror}") from None


def _read(path: Path) -> HeldKeks:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"BYOK_KEK_FILE: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise SettingsError(f"BYOK_KEK_FILE: {path} is not JSON") from None
    warn_of_readers(path, "the key-encryption keys")
    try:
        return parse_keks(document)
    except ValueError as error:
        raise SettingsError(f"BYOK_KEK_FILE: {path}: {error}") from None


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
