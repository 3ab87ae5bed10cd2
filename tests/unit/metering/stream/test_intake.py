"""What waits between the fetch and the ledger: batches, their limits, and what is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from services.metering.booking.pricing import Record
from services.metering.stream.intake import Intake, book_what_comes
from tests.patience import PATIENCE_SECONDS

LONG = 60.0


def record(offset: int, value: bytes = b"{}") -> Record:
    return Record(0, offset, None, value, 0.0)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))


def offsets(records: Sequence[Record]) -> list[int]:
    return [each.offset for each in records]


def test_a_batch_is_of_what_waited_longest_and_no_larger_than_it_may_be() -> None:
    async def test() -> None:
        intake = Intake(3, LONG)
        await intake.put(map(record, range(7)))
        assert [offsets(await intake.batch()), offsets(await intake.batch())] == [[0, 1, 2], [3, 4, 5]]
        waiting = asyncio.create_task(intake.batch())
        await asyncio.sleep(0)
        assert not waiting.done()
        await intake.put(map(record, (7, 8)))
        assert offsets(await waiting) == [6, 7, 8]

    run(test)


def test_what_came_alone_is_taken_after_the_linger() -> None:
    async def test() -> None:
        intake = Intake(3, 0.01)
        await intake.put([record(0)])
        assert offsets(await intake.batch()) == [0]

    run(test)


@pytest.mark.parametrize("records", [[record(n) for n in range(3)], [record(0, bytes(32 * 1024 * 1024))]])
def test_no_more_is_fetched_while_a_batch_waits_by_number_or_by_bytes(records: list[Record]) -> None:
    async def test() -> None:
        intake = Intake(3, LONG)
        await intake.wait_room()
        await intake.put(records)
        waiting = asyncio.create_task(intake.wait_room())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert offsets(await intake.batch()) == offsets(records)
        await waiting

    run(test)


def test_what_waited_is_forgotten_when_partitions_move_and_nobody_waits_in_vain() -> None:
    async def test() -> None:
        intake = Intake(2, 0.01)
        await intake.put(map(record, range(2)))
        held_back = asyncio.create_task(intake.wait_room())
        await asyncio.sleep(0)
        await intake.clear()
        await held_back
        # One that lingers over what is gone by then goes on to wait for the next.
        await intake.put([record(2)])
        taking = asyncio.create_task(intake.batch())
        await asyncio.sleep(0)
        await intake.clear()
        await asyncio.sleep(0.02)
        assert not taking.done()
        await intake.put([record(3)])
        assert offsets(await taking) == [3]

    run(test)


def test_the_next_batch_is_taken_while_one_is_booked_and_no_third() -> None:
    async def test() -> None:
        intake = Intake(1, LONG)
        begun: list[int] = []
        told: list[int] = []
        go_on = asyncio.Semaphore(0)

        async def book(batch: Sequence[Record]) -> None:
            begun.extend(offsets(batch))
            await go_on.acquire()

        booking = asyncio.create_task(book_what_comes(intake, book, lambda batch: told.extend(offsets(batch))))
        await intake.put(map(record, range(4)))
        await asyncio.sleep(0.01)
        assert (begun, told) == ([0, 1], [])
        go_on.release()
        await asyncio.sleep(0.01)
        assert (begun, told) == ([0, 1, 2], [0])
        booking.cancel()

    run(test)


def test_what_cannot_be_booked_is_not_told_and_ends_it_though_nothing_more_comes() -> None:
    async def test() -> None:
        intake = Intake(1, LONG)
        told: list[Sequence[Record]] = []

        async def book(_batch: Sequence[Record]) -> None:
            raise ValueError("the log was truncated")

        await intake.put([record(0)])
        with pytest.raises(ExceptionGroup) as raised:
            await book_what_comes(intake, book, told.append)
        assert raised.group_contains(ValueError, match="truncated")
        assert told == []

    run(test)
