"""At any moment, whoever writes or is killed: a summary is the sums of the entries up to the position that it says."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import ExitStack, closing
from random import Random

import psycopg
import pytest

from services.proof.verify import verify
from services.runtime.database import connect
from tests.integration.metering.feed import leaders, place, sequencer
from tests.integration.metering.ledgers import Ledger
from tests.integration.summed import Rolled, a_question
from tests.patience import PATIENCE_SECONDS, wait_for


class _Writer(threading.Thread):
    """Books, corrects, and leaves transactions open for a while that it commits, takes back, or is killed in."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        super().__init__(daemon=True)
        self._dsn = ledger.dsn
        self._chance = Random(seed)  # noqa: S311 - a seed that repeats is what is wanted
        self._rolled = Rolled(ledger.owner_dsn, ledger.dsn)
        self._open: list[psycopg.Connection] = []

    def run(self) -> None:
        for _ in range(60):
            self._rolled.book(self._chance)
            connection = psycopg.connect(self._dsn)
            self._rolled.begin(self._chance, connection)
            self._open.append(connection)
            while len(self._open) > self._chance.randint(0, 5):
                self._end_one()
        while self._open:
            self._end_one()

    def _end_one(self) -> None:
        with closing(self._open.pop(self._chance.randrange(len(self._open)))) as connection:
            match self._chance.randrange(4):
                case 0:
                    connection.rollback()
                case 1:
                    # As if the process had been killed: the server finds that nobody is there.
                    with socket.socket(fileno=os.dup(connection.fileno())) as wire:
                        wire.shutdown(socket.SHUT_RDWR)
                case _:
                    connection.commit()


class _Asker(threading.Thread):
    """Asks for sums until it is told to stop, and compares each answer."""

    def __init__(self, ledger: Ledger, seed: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._chance = Random(seed)  # noqa: S311 - as above
        self._rolled = Rolled(ledger.owner_dsn, ledger.dsn)
        self._stop_asking = stop
        self.asked = 0
        self.wrong: Exception | None = None

    def run(self) -> None:
        try:
            while not self._stop_asking.is_set():
                self._rolled.check(a_question(self._chance))
                self.asked += 1
        except Exception as error:  # noqa: BLE001 - told by the test, of which this is a thread
            self.wrong = error


@pytest.mark.slow
def test_sums_agree_with_entries_while_writers_and_sequencers_are_killed(ledger: Ledger) -> None:
    stop = threading.Event()
    writers = [_Writer(ledger, seed) for seed in range(3)]
    askers = [_Asker(ledger, seed, stop) for seed in (10, 11)]
    with ExitStack() as stack:
        running = [stack.enter_context(sequencer(ledger)) for _ in range(2)]
        for thread in [*writers, *askers]:
            thread.start()
        while any(thread.is_alive() for thread in writers):
            wait_for("one to lead", lambda: leaders(ledger))
            writers[0].join(0.7)
            running.pop(0).kill()
            running.append(stack.enter_context(sequencer(ledger)))
    place(ledger)
    stop.set()
    for asker in askers:
        asker.join(PATIENCE_SECONDS)
        if asker.wrong is not None:
            raise asker.wrong
        assert asker.asked > 10
    with connect(ledger.dsn, "test-verify", autocommit=True) as connection:
        found = verify(connection).first
    assert [one for one in found if one.check in {"feed", "roll-ups"}] == []
