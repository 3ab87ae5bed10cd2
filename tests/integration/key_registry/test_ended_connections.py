"""Connections that the server has ended while they lay in a pool: nobody who comes next gets one of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine, text

from services.key_registry.database import sessions
from services.ledger import database as ledger_database
from services.local.embedded.postgres import Postgres
from tests.integration.key_registry.conftest import Database
from tests.patience import PATIENCE_SECONDS

_KEPT = 3


def _opened(engine: Engine) -> set[int]:
    """The backends of several connections that are used at once, and given back."""
    with ExitStack() as used:
        connections = [used.enter_context(engine.connect()) for _ in range(_KEPT)]
        return {int(each.execute(text("SELECT pg_backend_pid()")).scalar_one()) for each in connections}


@pytest.mark.parametrize("open_engine", [sessions.open_engine, ledger_database.open_engine])
def test_whoever_comes_next_gets_one_that_lives(
    open_engine: Callable[[str], Engine], database: Database, postgres: tuple[Postgres, int]
) -> None:
    engine = open_engine(database.dsn)
    before = _opened(engine)
    assert _opened(engine) == before, "they are kept"
    with postgres[0].connect() as admin:
        for pid in before:
            admin.execute("SELECT pg_terminate_backend(%s, %s)", (pid, int(PATIENCE_SECONDS * 1000)))
    assert _opened(engine).isdisjoint(before)
    engine.dispose()
