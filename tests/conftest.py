"""Settings of all tests: the same examples in every run where `CI` is set, fresh ones elsewhere."""

from __future__ import annotations

import os

import pytest
import structlog
from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# By default a traceback comes with the values of all its variables, which takes seconds where an engine is among them.
_plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], _plain])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, and those of the one end-to-end stack, which takes long to start."""
    for item in items:
        file = item.nodeid.partition("::")[0]
        shares_stack = file.startswith("tests/e2e/") and "stack" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("tests/e2e" if shares_stack else file))
