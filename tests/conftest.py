"""Settings of all tests: the same examples in every run where `CI` is set, fresh ones elsewhere."""

from __future__ import annotations

import os
import signal

import pytest
import structlog
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("dev", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# By default a traceback comes with the values of all its variables, which takes seconds where an engine is among them.
_plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], _plain])

# A logger that is kept writes as it was configured at its first line, which may have been a command's in another test.
_configure = structlog.configure
structlog.configure = lambda **settings: _configure(**settings | {"cache_logger_on_first_use": False})


# In the background of a shell Ctrl-C is ignored, and all that a test starts would ignore it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


_STARTED_ONCE = ("tests/e2e/one_stack", "tests/apache_kafka/one_rig", "tests/browser", "tests/integration/console")


class _ByPlace(LoadScopeScheduling):
    """Keeps the tests of a file in one process, and those of a folder that share what takes long to start."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = file.rpartition("/")[0]
        return folder if folder in _STARTED_ONCE else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByPlace:
    """Share the tests out by their place; the many short ones, which come last, fill what the long ones leave."""
    config.option.loadscopereorder = False
    return _ByPlace(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with those that wait for time limits of half a minute: the last of a run would keep it from its end."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/unit/runtime/"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Leave word of how the run ended: `make` says of every failure that it is one, and CI must tell them apart."""
    cache = getattr(session.config, "cache", None)
    if cache is not None and not hasattr(session.config, "workerinput"):
        cache.set("byok/exit", int(exitstatus))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that long tests leave, which pytest keeps to itself where all is well."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")
