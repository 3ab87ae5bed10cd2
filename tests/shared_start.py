"""What takes long to start is started once for all tests of a folder, and ended after the last of them.

Each folder has its own, of which its conftest tells what comes next.
"""

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
        self._is_over = False

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Start it."""
        return self._running.enter_context(context)

    def before(self) -> None:
        """Fail the test that comes when all has ended: what it would be given is gone."""
        assert not self._is_over, f"the tests of {self._folder.name} run together: what they share has ended"

    def after(self, next_item: pytest.Item | None) -> None:
        """End it all, unless the next test is one of the folder, too."""
        if next_item is None or next_item.path.parent != self._folder:
            self.end()

    def end(self) -> None:
        """End it all; once more does nothing."""
        self._is_over = True
        self._running.close()
