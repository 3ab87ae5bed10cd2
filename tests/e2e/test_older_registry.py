"""A registry's database that is older than the ledger: the stack says so, instead of giving numbers out twice."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from services.local.data_dir import DataDir
from services.local.embedded.postgres import MAINTENANCE_DATABASE, SUPERUSER
from tests.e2e.running import Stack, start_stack
from tests.patience import wait_for

_END_SESSIONS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'registry'"


def _superuser(stack: Stack) -> psycopg.Connection:
    password = DataDir(stack.data_dir).passwords((SUPERUSER,))[SUPERUSER]
    return psycopg.connect(
        stack.told["ledger_dsn"], user=SUPERUSER, password=password, dbname=MAINTENANCE_DATABASE, autocommit=True
    )


@pytest.mark.slow
def test_a_stack_whose_registry_lacks_what_the_ledger_was_priced_with_does_not_start(tmp_path: Path) -> None:
    with start_stack(tmp_path / "data") as stack:
        stack.new_organization("pro")
        stack.settle()
    with start_stack(tmp_path / "data") as stack, _superuser(stack) as admin:
        # The broker of this start knows the older log alone: it is the ledger that knows of the change below.
        admin.execute("ALTER DATABASE registry ALLOW_CONNECTIONS false")
        admin.execute(_END_SESSIONS)
        admin.execute("CREATE DATABASE older TEMPLATE registry OWNER registry_owner")
        admin.execute("ALTER DATABASE registry ALLOW_CONNECTIONS true")
        _change(stack)
        admin.execute("ALTER DATABASE registry ALLOW_CONNECTIONS false")
        admin.execute(_END_SESSIONS)
        admin.execute("ALTER DATABASE registry RENAME TO newer")
        admin.execute("ALTER DATABASE older RENAME TO registry")
    with pytest.raises(AssertionError, match="and the ledger has change"), start_stack(tmp_path / "data"):
        pass


def _change(stack: Stack) -> None:
    """Once the registry, whose sessions were ended, takes one again."""
    org_id = stack.new_organization()
    path = f"/v1/organizations/{org_id}/plan"
    wait_for("a change", lambda: stack.registry.put(path, json={"plan": "pro"}).is_success)
    stack.settle()
