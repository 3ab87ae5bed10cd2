"""Upgrading a ledger that is in use keeps what it says, and who may read what."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config

from services.books import migrations, registry_log
from services.books.registry_log import fold
from services.books.roll_ups import ROLL_UPS
from services.domain.scope import Plan
from services.proof.feed import COMPARED
from tests.integration.metering.feed import book, feed, place
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import NOW, payloads, plan
from tests.integration.real_parts import Database
from tests.patience import PATIENCE_SECONDS, wait_for


def _upgrade(ledger: Ledger, revision: str) -> None:
    ledger.execute("CREATE SCHEMA ledger")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes.update(dsn=ledger.owner_dsn, schema="ledger")
    command.upgrade(config, revision)


def test_a_log_that_was_there_before_is_read_whole_and_gone_on_with(postgres: Database) -> None:
    """Also one with a hole that was filled."""
    postgres.create("upgraded", "ledger_owner")
    ledger = Ledger(postgres, "upgraded")
    log = [plan(seq, name) for seq, name in ((1, "free"), (4, "pro"), (2, "enterprise"))]
    with psycopg.connect(ledger.owner_dsn, autocommit=True) as connection:
        _upgrade(ledger, "0005")
        for change, payload in zip(log, payloads(log), strict=True):
            insert = "INSERT INTO ledger.registry_change (seq, key, payload) VALUES (%s, %s, %s)"
            connection.execute(insert, (change.seq, change.key, payload))
        migrations.upgrade(ledger.owner_dsn)
    with psycopg.connect(ledger.dsn) as connection:
        before = list(registry_log.after(connection, 0))
        assert sorted(change.seq for change in before) == [1, 2, 4]
        assert fold(before).plan_at("acme", NOW) is Plan.PRO
        late = plan(3, "enterprise")
        registry_log.append(connection, [(late.seq, late.key, payloads([late])[0])])
        assert [change.seq for change in registry_log.after(connection, before[-1].arrival)] == [3]


def test_entries_that_were_there_before_get_places_in_the_order_of_their_recording(postgres: Database) -> None:
    postgres.create("placed", "ledger_owner")
    ledger = Ledger(postgres, "placed")
    _upgrade(ledger, "0011")
    with psycopg.connect(ledger.dsn, autocommit=True) as worker:
        before = [book(worker, 3), book(worker, 2)]
        migrations.upgrade(ledger.owner_dsn)
        expected = [entry_id for batch in before for entry_id in sorted(batch)]
        assert feed(ledger) == list(enumerate(expected, start=1))
        # They go on one by one: the upgrade is no restore.
        later = book(worker, 1)
        assert place(ledger) == 1
        assert feed(ledger, after=5) == [(6, later[0])]
    tables = ("entry_feed", "entry_position", "entry_batch", "feed")
    readable = "SELECT has_table_privilege('ledger_reader', %s, 'SELECT') AS may"
    assert [ledger.rows(readable, f"ledger.{table}")[0]["may"] for table in tables] == [True, False, False, False]


def _wrong_sums(ledger: Ledger) -> list[Any]:
    return [row for query in COMPARED.values() for row in ledger.rows(query)]


def test_entries_that_had_places_before_are_in_the_sums_and_those_that_wait_come_with_theirs(
    postgres: Database,
) -> None:
    postgres.create("summed", "ledger_owner")
    ledger = Ledger(postgres, "summed")
    _upgrade(ledger, "0012")
    with psycopg.connect(ledger.dsn, autocommit=True) as worker:
        book(worker, 5)
        assert place(ledger) == 5
        book(worker, 2)
        migrations.upgrade(ledger.owner_dsn)
        sums = "SELECT events, list_mc FROM ledger.daily_sums"
        assert ledger.rows(sums) == [{"events": 5, "list_mc": 5}]
        assert place(ledger) == 2
        assert ledger.rows(sums) == [{"events": 7, "list_mc": 7}]
    assert _wrong_sums(ledger) == []


def test_a_sequencer_of_the_release_before_that_waits_for_the_upgrade_gives_no_place_without_a_sum(
    postgres: Database,
) -> None:
    postgres.create("under_way", "ledger_owner")
    ledger = Ledger(postgres, "under_way")
    _upgrade(ledger, "0012")
    with psycopg.connect(ledger.dsn, autocommit=True) as worker:
        book(worker, 5)
    failed: list[Exception] = []

    def sequence() -> None:
        try:
            place(ledger)
        except psycopg.Error as error:
            failed.append(error)

    upgrading = threading.Thread(target=migrations.upgrade, args=(ledger.owner_dsn,))
    sequencing = threading.Thread(target=sequence)
    with psycopg.connect(ledger.owner_dsn) as blocking:
        # The upgrade has renamed what sequencers look for, and waits with its sums.
        blocking.execute("LOCK TABLE ledger.entry_position")
        upgrading.start()
        wait_for("the upgrade to wait", lambda: _waiting(postgres, "under_way", 1))
        sequencing.start()
        wait_for("the sequencer to wait", lambda: _waiting(postgres, "under_way", 2))
        blocking.commit()
    upgrading.join(PATIENCE_SECONDS)
    sequencing.join(PATIENCE_SECONDS)
    assert [type(error) for error in failed] == [psycopg.errors.UndefinedColumn]
    assert place(ledger) == 5
    assert ledger.rows("SELECT events FROM ledger.daily_sums") == [{"events": 5}]


@pytest.mark.parametrize("beforehand", [False, True], ids=["as it was shipped", "as somebody has prepared it"])
def test_the_key_of_the_identity_goes_and_what_finds_events_comes_before_it(
    postgres: Database, beforehand: bool
) -> None:
    name = f"by_event_{beforehand}".lower()
    postgres.create(name, "ledger_owner")
    ledger = Ledger(postgres, name)
    _upgrade(ledger, "0014")
    with psycopg.connect(ledger.dsn, autocommit=True) as worker:
        booked = book(worker, 3)
        if beforehand:
            # In hash partitions the key has another name; the index is made while workers book.
            ledger.execute(f"ALTER TABLE ledger.entry RENAME CONSTRAINT {_KEY_OF_THE_IDENTITY} TO of_partitions")
            ledger.execute(_BY_EVENT)
        migrations.upgrade(ledger.owner_dsn)
        indexes = {row["indexrelid"]: row["unique"] for row in ledger.rows(_INDEXES)}
        assert indexes["ledger.entry_by_event"] is False
        assert {name for name, unique in indexes.items() if unique} == {
            "ledger.entry_pkey",
            "ledger.entry_reversed_once",
        }
        assert {entry["entry_id"] for entry in ledger.entries()} == set(booked)
        with pytest.raises(psycopg.errors.UniqueViolation, match="entry_pkey"):
            worker.execute("INSERT INTO ledger.entry SELECT * FROM ledger.entry")
        assert len(book(worker, 2)) == 2


_KEY_OF_THE_IDENTITY = "entry_org_id_event_source_event_id_revision_kind_key"
_BY_EVENT = """
CREATE INDEX CONCURRENTLY entry_by_event ON ledger.entry (org_id, event_source, event_id text_pattern_ops)
"""
_INDEXES = """
SELECT indexrelid::regclass::text, indisunique AS unique FROM pg_index WHERE indrelid = 'ledger.entry'::regclass
"""


def _waiting(postgres: Database, name: str, how_many: int) -> bool:
    with postgres.server.connect() as admin:
        found = admin.execute("SELECT FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'", (name,))
        return len(found.fetchall()) == how_many


def test_the_registry_may_read_the_ledgers_copy_of_its_log_and_nothing_else(postgres: Database, ledger: Ledger) -> None:
    tables = "SELECT schemaname || '.' || tablename AS name FROM pg_tables WHERE schemaname = 'ledger'"
    views = {f"ledger.{one.view}" for one in ROLL_UPS}
    names = (
        {row["name"] for row in ledger.rows(tables)}
        | views
        | {
            "ledger.entries",
            "ledger.entry_feed",
            "ledger.dead_letters",
        }
    )
    readable = "SELECT has_table_privilege('ledger_registry', %s, %s) AS may"
    rights = {name: [ledger.rows(readable, name, right)[0]["may"] for right in ("SELECT", "INSERT")] for name in names}
    assert {name for name, (reads, _) in rights.items() if reads} == {"ledger.registry_change"}
    assert not any(writes for _, writes in rights.values())
    with psycopg.connect(postgres.dsn("ledger_registry", "books")) as connection:
        assert registry_log.newest(connection) is None
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT FROM ledger.entry")
