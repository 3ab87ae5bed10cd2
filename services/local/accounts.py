"""As whom the children of a stack run: never as root where that can be helped (ADR 0021).

Started by root, all of them run as the account of the embedded PostgreSQL, and the registry as another one, which alone
can read the keyring. They get at nothing of the data directory but what is theirs: the way in is not listable, files
are found from where they stand (the data directory), and no folder above it is opened up.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

from services.local.children import our_environment
from services.local.data_dir import DataDir
from services.local.embedded.account import first_account, runs
from services.local.processes import Account, Program, StackError

REGISTRY = "registry"
"""The one program that reads the keyring."""

_REGISTRY_ACCOUNTS = ("daemon", "nobody", "postgres")
_PASSABLE = 0o711
_PUBLIC = 0o644
_TRY = "import services, pydantic_core"
_TRY_SECONDS = 30


class Accounts:
    """Who runs what; ``notices`` says, a line each, what runs as root nevertheless, and why."""

    def __init__(self, data: DataDir, server: Account | None) -> None:
        """``server`` is the account of PostgreSQL, None where we are not root: then nothing is changed anywhere.

        Gives each account what it has to read or write; what an earlier run by root left becomes its own, too.
        Raises StackError where that is not possible.
        """
        self.notices: list[str] = []
        self._root = data.root
        self._server = server
        self._registry: Account | None = None
        self._runs_python = False
        if server is None:
            return
        try:
            self._settle(data, server)
        except OSError as error:
            raise StackError(
                f"{error.filename or data.root} cannot be given to the user id {server.uid}: {error.strerror};"
                " run byok as an ordinary user, or choose another --data-dir"
            ) from error

    def prepare(self, program: Program) -> Program:
        """The program as it is to be started: as its account, unless it has one or that cannot execute it."""
        account = self._registry if program.name == REGISTRY else self._server
        if program.account is not None or account is None:
            return program
        executable = program.command[0]
        # What Python has to find besides was tried before.
        if executable == sys.executable:
            account = account if self._runs_python else None
        elif not runs((executable, "--version"), account, environment=program.environment, seconds=_TRY_SECONDS):
            self.notices.append(_as_root(program.name, account, executable))
            account = None
        return program if account is None else self._as(account, program)

    def _as(self, account: Account, program: Program) -> Program:
        environment = {name: self._from_here(value) for name, value in program.environment.items()}
        return replace(
            program,
            account=account,
            command=tuple(map(self._from_here, program.command)),
            # Root's home is closed to it, and a client that looks for settings there would take that for an error.
            environment=environment | {"HOME": "/"},
        )

    def _from_here(self, value: str) -> str:
        """A path within the data directory as the child sees it, which stands there and may not pass what is above."""
        return value.removeprefix(f"{self._root}{os.sep}")

    def _settle(self, data: DataDir, server: Account) -> None:
        _open_way(data)
        keyring = data.kek_file()
        registry = _registry_account(keyring, server)
        out_of_reach = [account for account in (server, registry) if account and not self._tries_python(account)]
        self._runs_python = not out_of_reach
        if out_of_reach:
            self.notices.append(_as_root("the services", out_of_reach[0], sys.executable))
            return
        _give_folders(data, server)
        for secret in data.console_secrets:
            os.chown(secret, server.uid, server.gid, follow_symlinks=False)
        if registry is None:
            names = ", ".join(_REGISTRY_ACCOUNTS)
            self.notices.append(f"the registry runs as root: create one of the users {names}, for it alone")
            return
        os.chown(keyring, registry.uid, registry.gid, follow_symlinks=False)
        self._registry = registry

    def _tries_python(self, account: Account) -> bool:
        command = (sys.executable, "-c", _TRY)
        return runs(command, account, environment=our_environment(), directory=self._root, seconds=_TRY_SECONDS)


def _as_root(what: str, account: Account, executable: str) -> str:
    return (
        f"running as root: {what}, since the user id {account.uid} cannot run {executable} or read what belongs to it;"
        " run byok as an ordinary user, or install it where other users may read it"
    )


def _open_way(data: DataDir) -> None:
    for folder in (data.root, data.secrets):
        # Of another's directory nothing is changed.
        if folder.stat().st_uid == 0:
            folder.chmod(_PASSABLE)
    # Public keys, which each service checks tokens with.
    public = data.secrets / "jwks.json"
    if public.exists():
        public.chmod(_PUBLIC)


def _give_folders(data: DataDir, account: Account) -> None:
    """All but secrets and logs, which are written by us, and PostgreSQL's, which sees to its own."""
    for folder in data.root.iterdir():
        if folder.is_dir() and folder not in (data.secrets, data.logs) and folder.name.partition(".")[0] != "postgres":
            for path in (*folder.rglob("*"), folder):
                _give(path, account)


def _give(path: Path, account: Account) -> None:
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        # Whoever owns the folder may have put a link to another file of root's there.
        is_ours = stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)
        if found.st_uid == 0 and is_ours:
            os.fchown(descriptor, account.uid, account.gid)
    finally:
        os.close(descriptor)


def _registry_account(keyring: Path, server: Account) -> Account | None:
    owner = keyring.stat()
    if owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    return first_account(_REGISTRY_ACCOUNTS, but=(0, server.uid))
