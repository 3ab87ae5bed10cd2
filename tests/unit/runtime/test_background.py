"""Work in the background waits for its surroundings, survives its errors, ends when it is told to, and says so."""

from __future__ import annotations

import asyncio
import threading

import pytest

from services.runtime import background
from services.runtime.background import in_background, patiently, patiently_until, repeat
from tests.patience import PATIENCE_SECONDS


class Flaky:
    """Fails with each of ``errors``, then is done."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    async def awaited(self) -> str:
        return self()


class Waited:
    """Waits out an OSError, and nothing else."""

    def __init__(self) -> None:
        self.out: list[Exception] = []

    def __call__(self, error: Exception) -> None:
        if not isinstance(error, OSError):
            raise error
        self.out.append(error)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each wait would be that was begun; none takes any time."""
    begun: list[float] = []

    def delays(longest: float = 5.0):
        for wait in range(1, 100):
            begun.append(wait)
            yield 0.0

    monkeypatch.setattr(background, "delays", delays)
    return begun


def test_it_is_tried_until_its_surroundings_work():
    away, waited = [OSError("1"), OSError("2")], Waited()
    assert asyncio.run(patiently(Flaky(*away).awaited, waited)) == "done"
    assert waited.out == away
    waited = Waited()
    assert patiently_until(threading.Event(), Flaky(*away), waited) == "done"
    assert waited.out == away


def test_what_waiting_cannot_help_is_raised_at_once():
    errors = (OSError("away"), ValueError("of the data"), OSError("not reached"))
    with pytest.raises(ValueError, match="of the data"):
        asyncio.run(patiently(Flaky(*errors).awaited, Waited()))
    with pytest.raises(ValueError, match="of the data"):
        patiently_until(threading.Event(), Flaky(*errors), Waited())


def test_a_thread_that_is_told_to_stop_tries_no_more():
    stop, tries = threading.Event(), []

    def work() -> None:
        tries.append(1)
        stop.set()
        raise OSError

    assert patiently_until(stop, work, Waited()) is None
    assert patiently_until(stop, work, Waited()) is None
    assert tries == [1]


def test_what_went_well_for_long_is_soon_tried_again(monkeypatch, waits):
    monkeypatch.setattr(background, "_WENT_WELL_SECONDS", -1.0)
    patiently_until(threading.Event(), Flaky(OSError(), OSError(), OSError()), Waited())
    assert waits == [1, 1, 1]
    waits.clear()
    monkeypatch.setattr(background, "_WENT_WELL_SECONDS", 1_000.0)
    patiently_until(threading.Event(), Flaky(OSError(), OSError(), OSError()), Waited())
    assert waits == [1, 2, 3]


def test_what_is_repeated_survives_its_errors_and_ends_when_it_is_told_to():
    stop, done = threading.Event(), []

    def work() -> None:
        done.append(1)
        if len(done) == 3:
            stop.set()
        raise ValueError("a bug")

    repeat(work, 0.0, stop)
    assert len(done) == 3


def test_a_thread_lasts_as_long_as_its_block():
    begun, ended = threading.Event(), threading.Event()

    def run(stop: threading.Event) -> None:
        begun.set()
        stop.wait(PATIENCE_SECONDS)
        ended.set()

    with in_background("ours", run, stop_seconds=PATIENCE_SECONDS):
        assert begun.wait(PATIENCE_SECONDS)
        assert not ended.is_set()
    assert ended.is_set()


def test_an_error_that_ends_a_thread_is_told():
    told, heard = [], threading.Event()

    def died(error: Exception) -> None:
        told.append(str(error))
        heard.set()

    def run(_stop: threading.Event) -> None:
        raise RuntimeError("nobody may go on")

    with in_background("ours", run, died=died):
        assert heard.wait(PATIENCE_SECONDS)
    assert told == ["nobody may go on"]
    with in_background("ours", run, stop_seconds=PATIENCE_SECONDS):
        pass
