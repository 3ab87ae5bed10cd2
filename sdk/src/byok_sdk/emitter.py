"""What a meter does with an event: on disk before ``record`` returns, then sent until the ledger has it."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import NamedTuple

from byok_sdk.errors import ClosedError
from byok_sdk.sender import Sender
from byok_sdk.settings import Settings
from byok_sdk.slots import Slot, take_free
from byok_sdk.spool import Counts, Spool


class _Open(NamedTuple):
    """What belongs to one process alone."""

    slot: Slot
    spool: Spool
    sender: Sender


_emitters: weakref.WeakSet[Emitter] = weakref.WeakSet()
# Connections that a child inherited. SQLite must neither use nor close them, so they are never collected.
_inherited: list[_Open] = []


class Emitter:
    """One slot of the spool directory and the thread that empties it, opened at the first event of each process."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened yet, so that a process may fork first."""
        self._settings = settings
        self._lock = threading.Lock()
        self._open: _Open | None = None
        self._closed = self._ending = False
        _emitters.add(self)

    def record(self, body: bytes) -> None:
        """Return when the event is recorded. Raises NotRecordedError where it is not, SpoolFullError where there is no
        room, and ClosedError.
        """
        settings = self._settings
        patience = settings.block_seconds if settings.when_full == "block" else 0.0
        self._opened().spool.add(body, patience=patience)

    def flush(self, timeout: float) -> bool:
        """Wait until the ledger has, or has refused, all that this process recorded; whether it did in time."""
        now = self._open
        return now is None or now.spool.wait(timeout, lambda: now.spool.waiting == 0)

    def close(self, timeout: float | None = None) -> bool:
        """Send what waits for ``timeout`` seconds (None: as the settings say), then let go of the spool.

        Whether all was sent. What was not stays on disk: the next process, or one that runs already, sends it.
        """
        with self._lock:
            self._closed = True
        return self._let_go(timeout)

    def end(self) -> None:
        """Close, for the process ends. What others that end later record is on disk all the same, and is sent by
        another process: no thread begins any more.
        """
        self._ending = True
        self._let_go(None)

    def _let_go(self, timeout: float | None) -> bool:
        with self._lock:
            now = self._open
        if now is None:
            return True
        sent = self.flush(self._settings.exit_seconds if timeout is None else timeout)
        ended = now.sender.stop(self._settings.timeout_seconds + 1)
        with self._lock:
            # A thread that hangs still uses the spool; it ends with the process, and the lock with both.
            if ended and self._open is now:
                self._open = None
                now.spool.close()
                now.slot.release()
        return sent

    def counts(self) -> Counts:
        """What became of the events of this process's slot, in which earlier ones may have been, too."""
        now = self._open
        return Counts() if now is None else now.spool.counts()

    @property
    def trouble(self) -> str | None:
        """Why nothing could be sent last; None where all is well."""
        now = self._open
        return None if now is None else now.sender.trouble

    def _opened(self) -> _Open:
        if (now := self._open) is not None and not self._closed:
            return now
        with self._lock:
            if self._closed:
                raise ClosedError("the meter was closed")
            if self._open is None:
                self._open = self._opening()
            return self._open

    def _opening(self) -> _Open:
        settings = self._settings
        slot = take_free(settings.spool_dir)
        try:
            spool = Spool(
                slot.path,
                durability=settings.durability,
                events_max=settings.spool_events_max,
                bytes_max=settings.spool_bytes_max,
            )
        except BaseException:
            slot.release()
            raise
        sender = Sender(settings, slot, spool)
        if not self._ending:
            sender.start()
        return _Open(slot, spool, sender)

    def forget_after_fork(self) -> None:
        """In a child: spool, lock and thread are the parent's. It opens its own at its first event."""
        self._lock = threading.Lock()
        if self._open is not None:
            _inherited.append(self._open)
            self._open = None


def _in_child() -> None:
    for emitter in list(_emitters):
        emitter.forget_after_fork()


def _at_exit() -> None:
    for emitter in list(_emitters):
        emitter.end()


os.register_at_fork(after_in_child=_in_child)
atexit.register(_at_exit)
