"""What is asked for at the same time is done at once, for nobody at another's expense."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future

import pytest

from services.runtime.together import Together
from tests.patience import PATIENCE_SECONDS


class Gate:
    """A piece of work that waits to be let through, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()
        self.asked: list[list[int]] = []

    def work(self, asked: Sequence[int]) -> Sequence[int | Exception]:
        self.asked.append(list(asked))
        self.begun.set()
        assert self.open.wait(PATIENCE_SECONDS)
        return [ValueError(f"not {one}") if one % 10 == 7 else 2 * one for one in asked]


def test_who_asks_meanwhile_shares_the_next_piece_of_work() -> None:
    together: Together[int, int] = Together("tested", 100)
    gate = Gate()
    first = together.ask(gate.work, 1)
    assert gate.begun.wait(PATIENCE_SECONDS)
    others = [together.ask(gate.work, number) for number in range(2, 7)]
    gate.open.set()
    assert [answer.result(PATIENCE_SECONDS) for answer in (first, *others)] == [2, 4, 6, 8, 10, 12]
    assert gate.asked == [[1], [2, 3, 4, 5, 6]]


def test_one_that_cannot_be_answered_does_not_spoil_the_others() -> None:
    together: Together[int, int] = Together("tested", 100)
    gate = Gate()
    asked = [together.ask(gate.work, number) for number in (1, 7, 8, 17)]
    gate.open.set()
    assert [answer.exception(PATIENCE_SECONDS) is None for answer in asked] == [True, False, True, False]
    with pytest.raises(ValueError, match="not 17"):
        asked[3].result()


def test_who_were_answered_together_may_share_the_next_piece_of_work_too() -> None:
    pauses: list[list[int]] = []
    gate = Gate()

    def pause(_seconds: float) -> None:
        # Those who come meanwhile.
        pauses.append([number for some in gate.asked for number in some])
        late.append(together.ask(gate.work, 5))

    together: Together[int, int] = Together("tested", 100, sleep=pause)
    late: list[Future[int]] = []
    asked = [together.ask(gate.work, 1)]
    assert gate.begun.wait(PATIENCE_SECONDS)
    asked += [together.ask(gate.work, number) for number in (2, 3)]
    gate.open.set()
    assert [answer.result(PATIENCE_SECONDS) for answer in asked] == [2, 4, 6]
    assert together.ask(gate.work, 4).result(PATIENCE_SECONDS) == 8
    assert late[0].result(PATIENCE_SECONDS) == 10
    assert (gate.asked, pauses) == ([[1], [2, 3], [4, 5]], [[1, 2, 3]])


def breaks(asked: Sequence[int]) -> Sequence[int]:
    return [1 // (number - number) for number in asked]


def forgets_one(asked: Sequence[int]) -> Sequence[int]:
    return asked[1:]


@pytest.mark.parametrize("work", [breaks, forgets_one])
def test_work_that_fails_is_told_to_all_and_the_next_goes_on(work: Callable[[Sequence[int]], Sequence[int]]) -> None:
    together: Together[int, int] = Together("tested", 100)
    failed = [together.ask(work, number) for number in range(3)]
    assert all(isinstance(answer.exception(PATIENCE_SECONDS), ArithmeticError | ValueError) for answer in failed)
    assert together.ask(lambda asked: list(asked), 5).result(PATIENCE_SECONDS) == 5


def test_a_piece_of_work_has_a_bound() -> None:
    together: Together[int, int] = Together("tested", 4)
    gate = Gate()
    asked = [together.ask(gate.work, 1)]
    assert gate.begun.wait(PATIENCE_SECONDS)
    asked += [together.ask(gate.work, number) for number in range(10, 16)]
    gate.open.set()
    assert [answer.result(PATIENCE_SECONDS) for answer in asked] == [2, 20, 22, 24, 26, 28, 30]
    assert [len(some) for some in gate.asked] == [1, 4, 2]


def test_nothing_is_done_for_whoever_went_away_before_it_began() -> None:
    together: Together[int, int] = Together("tested", 100)
    gate = Gate()
    first = together.ask(gate.work, 1)
    assert gate.begun.wait(PATIENCE_SECONDS)
    gone, stays = together.ask(gate.work, 2), together.ask(gate.work, 3)
    assert gone.cancel()
    gate.open.set()
    assert (first.result(PATIENCE_SECONDS), stays.result(PATIENCE_SECONDS)) == (2, 6)
    assert gate.asked == [[1], [3]]
    with pytest.raises(CancelledError):
        gone.result()


def test_many_who_ask_at_once_are_each_answered_theirs() -> None:
    together: Together[int, int] = Together("tested", 7)
    found: dict[int, int] = {}

    def ask(number: int) -> None:
        for each in range(number, 2_000, 8):
            found[each] = together.ask(lambda asked: [2 * one for one in asked], each).result(PATIENCE_SECONDS)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: 2 * number for number in range(2_000)}
