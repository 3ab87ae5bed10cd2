"""Dead letters on their way to their topic, at a broker that is slow, or takes only some of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError

from schemas.topics import USAGE_DEAD_LETTERS
from services.metering.dead_letters import relay as dead_letter_relay
from services.metering.dead_letters.relay import DeadLetterRelay
from services.runtime import broker as broker_clients
from services.runtime.database import connect
from services.runtime.kafka_access import KafkaAccess
from tests.integration.metering.ledgers import Ledger
from tests.integration.real_parts import running_broker
from tests.patience import PATIENCE_SECONDS, wait_for
from tests.topic_reader import everything

_SECONDS = 5.0
"""How long the broker may take for one; the session may be silent for twice as long."""
_LETTERS = 200
_INSERT = """
INSERT INTO ledger.dead_letter (source_partition_id, source_offset, source_index, reason, detail, payload, masked)
SELECT source_partition_id, n, 0, 'malformed_json', '', convert_to(n::text || repeat('x', %s), 'UTF8'), false
FROM ledger.source_partition, generate_series(1, %s) AS n
"""


class SlowProducer(KafkaProducer):
    """Each send takes long, and each succeeds well within its time."""

    def send(self, *arguments: Any, **options: Any) -> Any:
        time.sleep(4 * _SECONDS / _LETTERS)
        return super().send(*arguments, **options)


class Lost:
    """An acknowledgement that does not come."""

    def get(self, timeout: float) -> None:
        raise KafkaTimeoutError(f"nothing within {timeout} s")


class ForgetfulProducer(KafkaProducer):
    """Of the first dead letter the broker never says that it has it."""

    def send(self, *arguments: Any, **options: Any) -> Any:
        future = super().send(*arguments, **options)
        return Lost() if options["value"].startswith(b"1x") else future


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[str]:
    """A broker with no dead letters yet."""
    with running_broker(tmp_path) as bootstrap:
        yield bootstrap


@contextmanager
def _relaying(ledger: Ledger, broker: str) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=DeadLetterRelay(ledger.dsn, KafkaAccess(broker), _SECONDS).run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)


def _refuse(ledger: Ledger, letters: int, size: int = 10) -> None:
    """Leave dead letters to be sent, each with its number at the beginning."""
    with connect(ledger.owner_dsn, "test") as connection:
        connection.execute(
            """INSERT INTO ledger.source_partition (cluster_id, topic, partition, origin_offset, next_offset)
               VALUES ('cluster-1', 'usage', 0, 0, 1000)"""
        )
        connection.execute(_INSERT, (size, letters))


def _unsent(ledger: Ledger) -> int:
    (row,) = ledger.rows("SELECT count(*) AS unsent FROM ledger.dead_letter WHERE relayed_at IS NULL")
    return int(row["unsent"])


def _copies(broker: str) -> list[int]:
    """The numbers of the dead letters in the topic, in order, each as often as it is there."""
    return sorted(int(record.value.split(b"x")[0]) for record in everything(broker, USAGE_DEAD_LETTERS.name))


@pytest.mark.slow
def test_a_slow_broker_gets_each_dead_letter_once(
    ledger: Ledger, own_broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_clients, "KafkaProducer", SlowProducer)
    _refuse(ledger, _LETTERS)
    with _relaying(ledger, own_broker):
        wait_for("every dead letter to be sent", lambda: _unsent(ledger) == 0)
    assert _copies(own_broker) == list(range(1, _LETTERS + 1))


def test_what_the_broker_has_is_not_sent_again_for_what_it_does_not_have(
    ledger: Ledger, own_broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_clients, "KafkaProducer", ForgetfulProducer)
    _refuse(ledger, _LETTERS)
    with _relaying(ledger, own_broker):
        wait_for("all the others to be sent", lambda: _unsent(ledger) == 1)
        wait_for("the one to be sent again", lambda: _copies(own_broker).count(1) > 1)
    copies = _copies(own_broker)
    assert [number for number in copies if number > 1] == list(range(2, _LETTERS + 1))


def test_a_round_is_bounded_in_bytes(ledger: Ledger) -> None:
    _refuse(ledger, 10, size=900_000)
    with connect(ledger.dsn, "test") as connection:
        assert len(connection.execute(dead_letter_relay._SELECT).fetchall()) == 5
