"""One whole stack for all end-to-end tests of a run, as a newcomer would start it: `byok up`, driven from outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.key_registry.providers.probes import PROBES
from tests.e2e.running import Stack, start_stack
from tests.shared_start import SharedStart

_shared = SharedStart(Path(__file__).parent)
pytest_runtest_setup, pytest_runtest_teardown = _shared.before, _shared.after


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A running stack. Tests keep apart by organizations of their own."""
    # No made-up key of a test is sent to a real provider.
    nobody = json.dumps(dict.fromkeys(PROBES, ""))
    return _shared.enter(request, start_stack(tmp_path_factory.mktemp("stack"), BYOK_PROVIDER_URLS=nobody))
