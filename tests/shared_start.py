"""What takes long to start is started once for all tests of a folder, and ended after the last of them.

Each folder has its own; its conftest names the two hooks of it:

    pytest_runtest_setup, pytest_runtest_teardown = shared.before, shared.after
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

    def enter(self, request: pytest.FixtureRequest, context: AbstractContextManager[T]) -> T:
        """Start it, for a fixture of the session; with that it ends, if nothing has ended it before."""
        request.addfinalizer(self._end)  # a fixture that yields would end with the session alone
        return self._running.enter_context(context)

    def before(self) -> None:
        """Fail the test that comes when all has ended: what it would be given is gone."""
        assert not self._is_over, f"the tests of {self._folder.name} run together: what they share has ended"

    @pytest.hookimpl(trylast=True)
    def after(self, nextitem: pytest.Item | None) -> None:
        """End it all, unless the next test is one of the folder, too."""
        if nextitem is None or nextitem.path.parent != self._folder:
            self._end()

    def _end(self) -> None:
        self._is_over = True
        self._running.close()
