"""The watch of rate cards goes on whatever its client raises."""

from __future__ import annotations

import threading

import pytest

from services.ledger.card_watch import CardWatch
from services.runtime.background import in_background
from services.runtime.kafka_access import KafkaAccess
from tests.patience import PATIENCE_SECONDS


def test_whatever_the_client_raises_it_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries, again = [], threading.Event()

    def follow(_watch: CardWatch, _stop: threading.Event) -> None:
        tries.append(1)
        if len(tries) > 1:
            again.set()
        raise AssertionError("what no broker sends")

    monkeypatch.setattr(CardWatch, "_follow", follow)
    watch = CardWatch(KafkaAccess("127.0.0.1:1"))
    with in_background("card-watch", watch.run):
        assert again.wait(PATIENCE_SECONDS)
    assert watch.known() is None
