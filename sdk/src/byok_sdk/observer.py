"""What records the calls that hooks tell of: each once, and no failure of ours reaches whoever made the call."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from byok_sdk.aside import Aside
from byok_sdk.errors import ByokError
from byok_sdk.events import is_id, utc_now
from byok_sdk.observed import Tags, Told, ToolCalled

_log = logging.getLogger("byok_sdk")

_all: weakref.WeakSet[Observer] = weakref.WeakSet()
_current: ContextVar[Tags | None] = ContextVar("byok_sdk_tags", default=None)

Answer = TypeVar("Answer")

Describe = Callable[[], Told | None]
"""Says what was called; None where it was nothing to record."""

_REMEMBERED = 10_000
"""Calls of which is known that they were recorded. Whoever tells twice does so within seconds."""


@contextmanager
def tagged(tags: Tags) -> Iterator[None]:
    """Calls of models that are made within are those of ``tags`` (``run.tags``), for hooks that are told no others."""
    token = _current.set(tags)
    try:
        yield
    finally:
        _current.reset(token)


def current_tags() -> Tags:
    """The tags of here and now; none outside of ``tagged``."""
    return _current.get() or {}


def agents_tags(name: object, more: Tags | None = None) -> Tags:
    """The tags of here and now, and ``more``, for the agent that a framework names. A name that no event may have is
    nobody's.
    """
    tags = {**current_tags(), **(more or {})}
    return {**tags, "byok_agent": name} if is_id(name) else tags


def set_tags(tags: Tags) -> None:
    """From now on, until others are set: for who hears of a beginning and of an end, and is called for both."""
    _current.set(tags)


@dataclass
class ToolOutcome:
    """How a call of a tool went, for who knows of failures that raise nothing."""

    succeeded: bool = True

    def of(self, answer: Answer) -> Answer:
        """The tool's answer, which may say that it is one of failure (``status``)."""
        self.succeeded = getattr(answer, "status", None) != "error"
        return answer


class Observer:
    """Records what hooks tell of. Any thread may use it."""

    def __init__(self, record: Callable[[bytes], None], source: str) -> None:
        """``record`` returns when an event is on disk."""
        self._record, self._source = record, source
        self.forget_after_fork()
        self._known: OrderedDict[Hashable, None] = OrderedDict()
        self.aside = Aside()
        """For what must not wait where it is heard of: before a flush ends, it is done."""
        self.not_recorded = 0
        """How many calls were told of in vain: what they used could not be read, or not be kept."""
        _all.add(self)

    def forget_after_fork(self) -> None:
        """In a child: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def see(self, describe: Describe, *, once: Hashable = None) -> bool:
        """Record the call that ``describe`` describes, unless it is None or was recorded before; whether it was.

        ``once`` identifies the call before it is described. Nothing is raised: what goes wrong is logged and counted,
        and the same call may be told of again.
        """
        taken: list[Hashable] = []
        try:
            if once is not None and not self._take(once, taken):
                return False
            told = describe()
            if told is None:
                return False
            event_id, body = told.event(self._source)
            if not self._take(event_id, taken):
                return False
            self._record(body)
        except Exception as error:  # noqa: BLE001 - the call was answered, and its answer is its caller's
            self.failed(error, taken)
            return False
        return True

    async def see_async(self, describe: Describe, *, once: Hashable = None) -> bool:
        """The same on an event loop, which does not wait for our disk."""
        done: Future[bool] = Future()

        def see() -> None:
            awaited = done.set_running_or_notify_cancel()
            recorded = self.see(describe, once=once)
            if awaited:
                done.set_result(recorded)

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # It is no loop of asyncio's.
            return self.see(describe, once=once)
        if not self.aside.begin():
            return self.see(describe, once=once)
        # Not in the loop's own threads: they may all be busy with what waits for this.
        self.aside.put(see)
        return await asyncio.wrap_future(done, loop=loop)

    def see_later(self, describe: Describe, *, once: Hashable = None) -> None:
        """The same, soon: for where nobody may wait for a disk, nor can await one."""
        self.aside.put(lambda: self.see(describe, once=once))
        self.aside.begin()

    @contextmanager
    def tool(self, name: str, tags: Tags, *, counts: bool = True) -> Iterator[ToolOutcome]:
        """A tool is called within; recorded soon after, unless ``counts`` says no. It has failed where it raises."""
        at, outcome = utc_now(), ToolOutcome()
        try:
            yield outcome
        except BaseException:
            outcome.succeeded = False
            raise
        finally:
            if counts:
                self.see_later(lambda: ToolCalled(tags, name, outcome.succeeded, at))

    def _take(self, key: Hashable, taken: list[Hashable]) -> bool:
        with self._lock:
            if key in self._known:
                return False
            self._known[key] = None
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        taken.append(key)
        return True

    def failed(self, error: Exception, taken: Iterable[Hashable] = ()) -> None:
        """Log and count a call that cannot be recorded; what was ``taken`` for it may be told of again."""
        with self._lock:
            self.not_recorded += 1
            for key in taken:
                self._known.pop(key, None)
        # Texts of other packages may hold a key or a prompt; ours do not.
        why = str(error) if isinstance(error, ByokError) else type(error).__name__
        _log.error("a call is not recorded: %s", why)


def _in_child() -> None:
    for observer in list(_all):
        observer.forget_after_fork()


os.register_at_fork(after_in_child=_in_child)
