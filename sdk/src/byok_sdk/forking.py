"""A process that forks waits until none of our threads is inside SQLite or OpenSSL.

Both lock things that belong to the whole process. A child has only the thread that forked, so what another thread held
at that moment is locked in the child for good: its first event, or its first connection, would never end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# A disk or a host name that hangs must not keep a process from forking; then a child may hang, as it would without us.
_PATIENCE_SECONDS = 1.0
_INSIDE_OPENSSL = ("connection.connect_tcp", "connection.start_tls", "http11.send_request")


class _Gate:
    """Any number of threads are inside, or some fork."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Nobody is inside and nobody forks, as in a child."""
        self._changed = threading.Condition()
        self._inside = 0
        self._forks = 0

    def enter(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._forks == 0, _PATIENCE_SECONDS)
            self._inside += 1

    def leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def before_fork(self) -> None:
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: self._inside == 0, _PATIENCE_SECONDS)

    def after_fork_in_parent(self) -> None:
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


_gate = _Gate()
os.register_at_fork(
    before=_gate.before_fork,
    after_in_parent=_gate.after_fork_in_parent,
    after_in_child=_gate.begin,
)


@contextmanager
def no_fork() -> Iterator[None]:
    """Work that a fork waits for: short, and not one inside the other."""
    _gate.enter()
    try:
        yield
    finally:
        _gate.leave()


def trace(name: str, _info: Mapping[str, Any]) -> None:
    """For ``extensions={"trace": trace}`` of a request by httpx: a fork waits for all of it but the wait for an answer,
    in which a thread holds nothing.
    """
    if name.startswith(_INSIDE_OPENSSL):
        if name.endswith(".started"):
            _gate.enter()
        else:
            _gate.leave()
