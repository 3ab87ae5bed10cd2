"""What docker-compose.yml's PostgreSQL is given when it is made is what `byok up` gives its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.local.embedded.databases import LOGIN_ROLES
from services.local.embedded.postgres import Postgres
from services.local.endpoints import LOOPBACK, Ports
from services.local.processes import StopSwitch, Supervisor
from tests.contract.test_deploy import ROOT
from tests.enabling import skip_unless
from tests.integration.real_parts import running_postgres
from tests.patience import PATIENCE_SECONDS

_ROLES = """
SELECT rolname, rolcanlogin, rolcreatedb, rolcreaterole, rolsuper,
  ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = r.oid) AS member_of
FROM pg_roles r WHERE rolname LIKE 'ledger%' OR rolname LIKE 'registry%' ORDER BY rolname
"""
_RIGHTS = """
SELECT datname, pg_get_userbyid(datdba), grantee::regrole::text, privilege_type
FROM pg_database, aclexplode(datacl) WHERE datname IN ('ledger', 'registry') ORDER BY 1, 3, 4
"""


def _told(connection: psycopg.Connection[Any]) -> list[list[Any]]:
    return [connection.execute(query).fetchall() for query in (_ROLES, _RIGHTS)]


@pytest.fixture
def as_by_byok_up(tmp_path: Path) -> list[list[Any]]:
    folder = tmp_path / "byok-up"
    folder.mkdir()
    with running_postgres(folder) as database, database.server.connect() as admin:
        return _told(admin)


def test_the_script_makes_the_same_roles_and_databases(as_by_byok_up: list[list[Any]], tmp_path: Path) -> None:
    psql = shutil.which("psql")
    skip_unless(psql, "psql is not installed", "apt install postgresql-client", needs="psql")
    passwords = tmp_path / "passwords"
    passwords.mkdir()
    for role in (*LOGIN_ROLES, "monitoring"):
        (passwords / role).write_text(f"it's \\ of {role}")
    port, supervisor = Ports.free_block().postgres, Supervisor(tmp_path, StopSwitch())
    server = Postgres(tmp_path / "postgres", port, "made-up", dict(os.environ))
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        server.initialize(supervisor, deadline)
        child = supervisor.start(server.program())
        supervisor.wait_until(server.answers, deadline, lambda: child.report("does not answer"))
        with server.connect() as admin:
            how = admin.info
            environment = os.environ | {"POSTGRES_USER": how.user, "PGHOST": LOOPBACK, "PGPORT": str(port)}
            environment |= {"PGPASSWORD": "made-up", "PASSWORDS": str(passwords)}
            script = ["bash", str(ROOT / "deploy" / "postgres" / "10-roles.sh")]
            done = subprocess.run(
                script, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
            )
            assert done.returncode == 0, done.stderr
            assert _told(admin) == as_by_byok_up
        dsn = f"postgresql://ledger_service@{LOOPBACK}:{port}/ledger"
        # As a container has them.
        file = tmp_path / "pgpass"
        file.write_text("*:*:*:ledger_service:it's \\\\ of ledger_service\n")
        file.chmod(0o600)
        psycopg.connect(dsn, passfile=str(file)).close()
    finally:
        supervisor.stop()
        server.close()
