"""The spool directory: numbered slots, each a file of events that one process at a time holds by a lock.

A process takes the first slot that nobody holds, with whatever a dead process left in it; so there are never more slots
than there were processes at once, and nothing is ever moved or deleted. The lock is the kernel's (flock): it ends with
the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from byok_sdk.errors import NotRecordedError

SLOTS_MAX = 10_000

_held: set[Slot] = set()
# In a child: the files of its parent's slots.
_inherited: set[Path] = set()


class Slot:
    """A slot that this process holds."""

    def __init__(self, number: int, path: Path, lock: int) -> None:
        """``lock`` is the descriptor that holds it."""
        self.number = number
        self.path = path
        self._lock: int | None = lock
        _held.add(self)

    def release(self) -> None:
        """Let others take it."""
        if self._lock is not None:
            _held.discard(self)
            os.close(self._lock)
            self._lock = None


def take_free(folder: Path) -> Slot:
    """Hold the first slot that nobody holds; the folder is made where there is none. Raises NotRecordedError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(1, SLOTS_MAX + 1):
            if (slot := try_take(folder, number)) is not None:
                return slot
    except OSError as error:
        raise NotRecordedError(f"the spool directory cannot be used: {error}") from error
    raise NotRecordedError(f"the spool directory has {SLOTS_MAX} slots, and all are held")


def try_take(folder: Path, number: int) -> Slot | None:
    """Hold this slot, or None where another holds it."""
    path = folder / f"{number}.sqlite"
    if path in _inherited:
        return None
    # Lock files are never deleted: a deleted one can be held by one process while another holds its successor.
    lock = os.open(folder / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return Slot(number, path, lock)


def existing(folder: Path) -> Iterator[tuple[int, Path]]:
    """The numbers and files of all slots that hold, or held, events."""
    numbers = sorted(int(path.stem) for path in folder.glob("*.sqlite") if path.stem.isdigit())
    return ((number, folder / f"{number}.sqlite") for number in numbers)


def _in_child() -> None:
    """The locks are the parent's, which alone lets go of them. This process never takes these slots, not even later:
    what SQLite knows of an inherited file is not true in a child.
    """
    for slot in list(_held):
        slot.release()
        _inherited.add(slot.path)


os.register_at_fork(after_in_child=_in_child)
