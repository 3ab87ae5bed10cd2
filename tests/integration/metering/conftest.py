"""A ledger database and a broker for the parts of metering; every test has a database and a cluster id of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from schemas.topics import USAGE_EVENTS
from services.books.migrations import upgrade
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.integration.metering.ledgers import Ledger
from tests.integration.real_parts import Database, running_broker, running_postgres

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with running_postgres(tmp_path_factory.mktemp("metering-postgres")) as database:
        yield database


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_broker(tmp_path_factory.mktemp("metering-broker")) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def empty_ledger(postgres: Database) -> str:
    """The name of a database that the others are copies of: a tenth of the time that our migrations take."""
    name = "empty_ledger"
    postgres.create(name, "ledger_owner")
    upgrade(Ledger(postgres, name).owner_dsn)
    return name


@pytest.fixture
def ledger(postgres: Database, empty_ledger: str) -> Ledger:
    name = f"ledger_{next(_numbers)}"
    postgres.create(name, "ledger_owner", template=empty_ledger)
    return Ledger(postgres, name)


@pytest.fixture
def topic(broker: str) -> str:
    """A topic of usage events that no other test writes to."""
    own = USAGE_EVENTS._replace(name=f"usage-events-{next(_numbers)}", partitions=2)
    create_topics(KafkaAccess(broker), [own], replication_factor=1)
    return own.name
