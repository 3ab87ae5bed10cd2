"""What takes long to start is started once for all tests of a folder, and ended after the last of them."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")


class SharedStart:
    """What the tests of one folder share. Idle, it would take of the processor from all tests that come after."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = ExitStack()

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Start it."""
        return self._running.enter_context(context)

    def after(self, next_item: pytest.Item | None) -> None:
        """End it all, unless the next test is one of the folder, too."""
        if next_item is None or next_item.path.parent != self._folder:
            self._running.close()
