"""One whole stack for all end-to-end tests of a run, as a newcomer would start it: `byok up`, driven from outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.running import Stack, start_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack. Tests keep apart by organizations of their own."""
    with start_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running
