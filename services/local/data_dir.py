"""Everything `byok up` keeps: DIR/postgres, DIR/journal, DIR/secrets (0600), DIR/logs, and two locks.

The locks say who is using it.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from services.local.processes import StackError
from services.runtime.private_file import write_private

_KEK_BYTES = 32
_SESSION_KEY_BYTES = 32
# A child between fork and exec still holds its parent's lock for an instant.
_OWNER_GRACE_SECONDS = 0.5


class DataDir:
    """One data directory: its folders, its secrets and its locks.

    Two locks, since two questions are asked: ``owner.lock`` is held by the one stack that uses the directory, and
    ``children.lock`` is inherited by every child, so it is free only when no process of an earlier stack is left,
    not even a PostgreSQL that is still shutting down after its parent was killed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.secrets = self.root / "secrets"
        self.logs = self.root / "logs"
        self.postgres = self.root / "postgres"
        self.journal = self.root / "journal"
        self._session_key = self.secrets / "console-session.key"
        self._personas = self.secrets / "personas.json"
        self._owner_lock: int | None = None
        self._children_lock: int | None = None

    def create(self) -> None:
        """Make the folders that are missing, for us alone. Raises StackError where that is not possible."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.secrets, self.logs, self.journal):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StackError(f"the data directory {self.root} cannot be used: {error.strerror}") from error

    def lock_as_owner(self) -> None:
        """Claim the directory. Raises StackError when another stack has it."""
        deadline = time.monotonic() + _OWNER_GRACE_SECONDS
        while (lock := _try_lock(self.root / "owner.lock")) is None:
            if time.monotonic() > deadline:
                raise StackError(f"another byok is running on {self.root}; stop it first, or choose another --data-dir")
            time.sleep(0.02)
        self._owner_lock = lock

    def try_lock_for_children(self) -> bool:
        """Whether no process of an earlier stack is left; then the lock is ours."""
        if self._children_lock is None:
            self._children_lock = _try_lock(self.root / "children.lock")
        return self._children_lock is not None

    @property
    def inherited(self) -> tuple[int, ...]:
        """The file descriptors that every child must inherit to be counted as left."""
        return () if self._children_lock is None else (self._children_lock,)

    def unlock(self) -> None:
        """Let go of the directory; a child that is still alive goes on holding ``children.lock``."""
        for lock in (self._children_lock, self._owner_lock):
            if lock is not None:
                os.close(lock)
        self._children_lock = self._owner_lock = None

    def passwords(self, names: Iterable[str]) -> dict[str, str]:
        """A random password for each name, made once and kept.

        Raises StackError when they are gone while the database that knows them is still there.
        """
        file = self.secrets / "passwords.json"
        kept: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        if not kept and self.postgres.exists():
            raise StackError(f"{file} is missing, without which {self.postgres} cannot be used; restore it")
        if missing := {name: secrets.token_hex(24) for name in names if name not in kept}:
            kept |= missing
            write_private(file, json.dumps(kept, indent=2))
        return kept

    def kek_file(self) -> Path:
        """The file with the key-encryption keys, made once with one random key."""
        file = self.secrets / "kek.json"
        if not file.exists():
            name = f"kek-{secrets.token_hex(4)}"
            key = base64.b64encode(os.urandom(_KEK_BYTES)).decode()
            write_private(file, json.dumps({"active": name, "keys": {name: key}}, indent=2))
        return file

    def session_key_file(self) -> Path:
        """The file with the key that seals the console's sessions, made once."""
        file = self._session_key
        if not file.exists():
            write_private(file, base64.urlsafe_b64encode(os.urandom(_SESSION_KEY_BYTES)).decode() + "\n")
        return file

    def personas_file(self, people: Iterable[Mapping[str, str]]) -> Path:
        """The file with those whom one can be in the console, each with a token; written anew."""
        write_private(self._personas, json.dumps(list(people), indent=2))
        return self._personas

    @property
    def console_secrets(self) -> list[Path]:
        """The files that the console reads, and nobody else, as far as they are there."""
        return [file for file in (self._session_key, self._personas) if file.exists()]


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
