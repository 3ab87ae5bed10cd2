"""What is asked for at the same time is done at once: one round trip, or one commit, for all who wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")

Work = Callable[[Sequence[_Asked]], Sequence[_Answer | Exception]]
"""Answers all that were asked, in their order; an exception is raised by whoever asked for that. What the work raises
itself, everybody raises."""


_GATHERING_SECONDS = 0.001


class _Waiting(NamedTuple, Generic[_Asked, _Answer]):
    asked: _Asked
    answer: Future[_Answer]


class Together(Generic[_Asked, _Answer]):
    """One thread that works for all who asked since it last looked.

    So the busier it is, the more share one piece of work; and whoever waits, waits for one thread, which is far less
    work for the processor than if all of them did the same side by side. Who asks alone waits for nobody. Where several
    have shared a piece of work, the next one begins a millisecond later: those who were just answered ask again within
    that time, and would otherwise be the half that waits for the other half.
    """

    def __init__(self, name: str, most: int, *, sleep: Callable[[float], object] = time.sleep) -> None:
        """At most ``most`` share one piece of work; the thread is called ``name``, and begins with the first of it."""
        self._most = most
        self._sleep = sleep
        self._shared = False
        self._waiting: deque[_Waiting[_Asked, _Answer]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def ask(self, work: Work[_Asked, _Answer], asked: _Asked) -> Future[_Answer]:
        """What ``work``, which must be the same for all, will answer to ``asked``, or raise."""
        answer: Future[_Answer] = Future()
        self._waiting.append(_Waiting(asked, answer))
        # Once for each who waits, so that nobody is forgotten; most of the times find that all was done.
        self._thread.submit(self._work_for_all, work)
        return answer

    def _work_for_all(self, work: Work[_Asked, _Answer]) -> None:
        if self._shared and 0 < len(self._waiting) < self._most:
            self._sleep(_GATHERING_SECONDS)
        waiting = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
        # Whoever went away while nothing was done for them is not worked for.
        together = [each for each in waiting if each.answer.set_running_or_notify_cancel()]
        if not together:
            return
        self._shared = len(together) > 1
        for each, answer in zip(together, _answers(work, [each.asked for each in together]), strict=True):
            if isinstance(answer, Exception):
                each.answer.set_exception(answer)
            else:
                each.answer.set_result(answer)


def _answers(work: Work[_Asked, _Answer], asked: Sequence[_Asked]) -> Sequence[_Answer | Exception]:
    try:
        return [answer for _, answer in zip(asked, work(asked), strict=True)]
    except Exception as error:  # noqa: BLE001 - everybody who asked raises it
        return [error] * len(asked)
