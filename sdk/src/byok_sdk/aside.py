"""Work that is done aside, in a thread of its own and in order.

An object that is thrown away may be so in the middle of anything, in any thread, with any lock held. What it still has
to record, it puts here: nothing else is safe there.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

_log = logging.getLogger("byok_sdk")
_EXIT_SECONDS = 5.0
_all: weakref.WeakSet[Aside] = weakref.WeakSet()


class Aside:
    """One thread of one process, from its first use on."""

    def __init__(self) -> None:
        """No thread yet, so that a process may fork first."""
        self.forget_after_fork()
        _all.add(self)

    def forget_after_fork(self) -> None:
        """In a child: the thread is the parent's, and so is what waited for it."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # Its put takes no lock that it could find taken, so it may come in the middle of anything.
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()

    def begin(self) -> bool:
        """Have the thread, for what may come; False where the interpreter ends, and begins no more of them."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._do_all, name="byok-sdk-aside", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return False
                self._thread = thread
        return True

    def put(self, work: Callable[[], object]) -> None:
        """Have it done soon; from anywhere."""
        self._work.put(work)

    def settle(self, timeout: float) -> bool:
        """Wait until what was put so far is done; whether it was in time."""
        if self._thread is None and self._work.empty():
            return True
        done = threading.Event()
        self.put(done.set)
        if not self.begin():
            while not done.is_set() and (work := self._work.get()) is not None:
                _do(work)
        return done.wait(timeout)

    def end(self, timeout: float) -> None:
        """Settle, and let the thread go."""
        self.settle(timeout)
        with self._lock:
            if self._thread is not None:
                self._work.put(None)
                self._thread = None

    def _do_all(self) -> None:
        while (work := self._work.get()) is not None:
            _do(work)


def _do(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001 - if the thread ended, nobody would do what comes
        _log.error("what was to be done aside failed: %s", type(error).__name__)


def _in_child() -> None:
    for aside in list(_all):
        aside.forget_after_fork()


def _at_exit() -> None:
    for aside in list(_all):
        aside.settle(_EXIT_SECONDS)


os.register_at_fork(after_in_child=_in_child)
atexit.register(_at_exit)
