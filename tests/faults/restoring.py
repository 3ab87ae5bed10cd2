"""Backups of a rig's databases, taken while it runs, and their restoring, with PostgreSQL's own programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from services.local.children import foreign_environment
from services.local.embedded.account import executables_for
from services.local.embedded.databases import prepare_databases
from services.local.embedded.postgres import SUPERUSER
from services.local.endpoints import LOOPBACK
from tests.faults.rig import Rig
from tests.patience import PATIENCE_SECONDS, wait_for


def _run(rig: Rig, program: str, *arguments: str) -> None:
    where = {"PGHOST": LOOPBACK, "PGPORT": str(rig.postgres.port), "PGUSER": SUPERUSER}
    secret = {"PGPASSWORD": rig.passwords[SUPERUSER]}
    done = subprocess.run(
        [str(executables_for(None) / program), *arguments],
        env=foreign_environment() | where | secret,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def dumped(rig: Rig, database: str, folder: Path) -> Path:
    """The database as it is now, as `pg_dump` writes it."""
    file = folder / f"{database}.dump"
    _run(rig, "pg_dump", "--format=custom", f"--file={file}", database)
    return file


def restore_dump(rig: Rig, database: str, file: Path) -> None:
    """Put what was dumped in the database's place."""
    with rig.postgres.connect() as admin:
        admin.execute(f"DROP DATABASE {database} WITH (FORCE)")
        prepare_databases(admin, rig.passwords)
    _run(rig, "pg_restore", "--exit-on-error", f"--dbname={database}", str(file))


class Archive:
    """The server's WAL, kept from now on, and one base backup of it, which must be taken before anything else."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        # Not below the folder of the test, which another user may not enter.
        self._folder = Path(tempfile.mkdtemp(prefix="byok-archive-"))
        self._wal, self._base = self._folder / "wal", self._folder / "base"
        self._wal.mkdir()
        self._own()
        command = f"test ! -f {self._wal}/%f && cp %p {self._wal}/%f"
        with rig.postgres.connect() as admin:
            admin.execute("ALTER SYSTEM SET archive_mode = on")
            admin.execute(f"ALTER SYSTEM SET archive_command = '{command}'")
        rig.postgres.stop()
        rig.postgres.start()

    def back_up(self) -> None:
        """The whole server as it is, by `pg_basebackup`."""
        _run(self._rig, "pg_basebackup", f"--pgdata={self._base}", "--checkpoint=fast", "--wal-method=none")

    def mark(self, name: str) -> None:
        """Name this moment, so that it can be restored to; what follows is archived as well."""
        with self._rig.postgres.connect() as admin:
            admin.execute("SELECT pg_create_restore_point(%s)", (name,))

    def restore_to(self, name: str) -> None:
        """Stop the server, and start it again as it was at the moment of that name, by backup and archived WAL."""
        with self._rig.postgres.connect() as admin:
            row = admin.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert row is not None
        wait_for("the last WAL to be archived", lambda: (self._wal / row[0]).exists())
        self._rig.postgres.stop()
        data = self._rig.data.postgres
        shutil.rmtree(data)
        shutil.copytree(self._base, data)
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"restore_command = 'cp {self._wal}/%f %p'\nrecovery_target_name = '{name}'\n")
            settings.write("recovery_target_action = 'promote'\narchive_mode = off\n")
        (data / "recovery.signal").touch()
        data.chmod(0o700)
        self._own(data)
        self._rig.postgres.start()
        wait_for("the end of the recovery", self._is_itself)

    def remove(self) -> None:
        """Take the files away."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_itself(self) -> bool:
        with self._rig.postgres.connect() as admin:
            return admin.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)

    def _own(self, folder: Path | None = None) -> None:
        account, folder = self._rig.postgres.account, folder or self._folder
        if account is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, account.uid, account.gid)
