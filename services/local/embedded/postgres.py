"""The embedded PostgreSQL 18: a child of ours on loopback TCP, with a password for everyone and no unix socket."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from services.local.embedded.account import executables_for, server_account
from services.local.processes import Account, Program, Supervisor

SUPERUSER = "byok_admin"
MAINTENANCE_DATABASE = "postgres"
"""What every server has: where roles log in that have no database of their own."""

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # A socket file would be a second door, guarded by file permissions instead of the password.
    "unix_socket_directories": "",
    "max_connections": "100",
    "password_encryption": "scram-sha-256",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
}
# A fast shutdown first; then an immediate one, after which the next start recovers from the log.
_STOP = ((signal.SIGINT, 5.0), (signal.SIGQUIT, 2.0))


class Postgres:
    """A PostgreSQL whose data is in ``folder``, on 127.0.0.1:``port``."""

    def __init__(self, folder: Path, port: int, password: str, environment: Mapping[str, str]) -> None:
        """``password`` is the superuser's. Raises StackError when the wheel is missing or cannot be used."""
        self._folder = folder
        self._port = port
        self._password = password
        # PGDATA and its like would redirect the server; a locale of the terminal may not exist here.
        self._environment = {k: v for k, v in environment.items() if not k.startswith("PG")} | {"LC_ALL": "C"}
        self._account = server_account(folder)
        self._programs = executables_for(self._account)
        self._data: int | None = None

    @property
    def account(self) -> Account | None:
        """As whom it runs; None: as we do, who are not root."""
        return self._account

    def initialize(self, supervisor: Supervisor, deadline: float) -> None:
        """Make the data directory, once. An attempt that was cut off leaves nothing that looks finished."""
        if self._folder.exists():
            return
        scratch = self._folder.with_name(f"{self._folder.name}.new")
        if scratch.exists():
            shutil.rmtree(scratch)
        scratch.mkdir(mode=0o700)
        data = _open_folder(scratch, self._account)
        # A file without a name: the password is neither on a command line nor left on the disk.
        with tempfile.TemporaryFile() as password:
            password.write(self._password.encode() + b"\n")
            password.seek(0)
            if self._account:
                os.fchown(password.fileno(), self._account.uid, self._account.gid)
            try:
                supervisor.run(self._initdb(scratch, data, password.fileno()), deadline)
            finally:
                os.close(data)
        scratch.rename(self._folder)

    def program(self) -> Program:
        """The server. Only whoever holds the locks of the data directory may run it."""
        # A pid of an earlier boot may be another process by now, and the server would refuse to start. The locks say
        # that no server is left; besides, the server checks its shared memory too.
        (self._folder / "postmaster.pid").unlink(missing_ok=True)
        if self._data is None:
            self._data = _open_folder(self._folder, self._account)
        settings = _SETTINGS | {"port": str(self._port)}
        return Program(
            name="postgres",
            command=(
                *(str(self._programs / "postgres"), "-D", self._reachable(self._folder, self._data)),
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ),
            environment=self._environment,
            directory=Path("/"),
            stop=_STOP,
            # With SIGKILL its own children would go on for a while.
            death_signal=signal.SIGQUIT,
            account=self._account,
            keep_open=(self._data,),
        )

    def close(self) -> None:
        """Let go of the data directory."""
        if self._data is not None:
            os.close(self._data)
            self._data = None

    def connect(self, database: str = MAINTENANCE_DATABASE) -> psycopg.Connection[TupleRow]:
        """A connection of the superuser, in autocommit."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self._port,
            user=SUPERUSER,
            password=self._password,
            dbname=database,
            connect_timeout=2,
            autocommit=True,
        )

    def answers(self) -> bool:
        """Whether it accepts connections by now. Raises psycopg.OperationalError when it refuses the password."""
        try:
            self.connect().close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise
            return False
        return True

    def _initdb(self, folder: Path, data: int, password: int) -> Program:
        return Program(
            name="initdb",
            command=(
                *(str(self._programs / "initdb"), "-D", self._reachable(folder, data)),
                *("--username", SUPERUSER, "--pwfile", f"/dev/fd/{password}", "--auth", "scram-sha-256"),
                *("--encoding", "UTF8", "--locale", "C"),
            ),
            environment=self._environment,
            directory=Path("/"),
            account=self._account,
            keep_open=(data, password),
            ends=True,
        )

    def _reachable(self, folder: Path, data: int) -> str:
        """The folder's name for the server.

        As another user it may not pass our parent directories, which we do not open up; so it gets the folder itself
        as an open file, by a name that passes none of them.
        """
        return f"/proc/self/fd/{data}" if self._account and sys.platform == "linux" else str(folder)


def _open_folder(folder: Path, account: Account | None) -> int:
    data = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if account and os.fstat(data).st_uid == 0:
        os.fchown(data, account.uid, account.gid)
    return data
