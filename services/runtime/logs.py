"""Structured logs on standard error, one JSON object a line. No key gets through: the last step masks their shapes."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from types import TracebackType
from typing import Any, NamedTuple

import structlog
from structlog.typing import EventDict, Processor

from services.domain.masking import mask_text

_TALKATIVE = (
    *("aiokafka", "alembic", "faust", "httpcore", "httpx", "kafka", "mode", "opentelemetry", "requests", "urllib3"),
    "uvicorn",
)
"""Libraries that say at level INFO what only their own developers want to know."""

_ON_THE_WIRE = {"aiokafka": logging.INFO, "httpcore": logging.WARNING, "httpx": logging.WARNING, "kafka": logging.INFO}
"""Libraries that below these levels log what they send and receive: customers' events, in which no mask would hold, and
the addresses and headers of what we ask."""


_OF_A_BUSY_MACHINE = "kafka.net.selector"
"""It warns of each of its own steps that took a tenth of a second, as they do where the machine has more to do."""

_SAME_MAX, _SAME_SECONDS = 5, 60.0
"""So often a library may say the same within so long: one that cannot reach its broker says it many times a second."""


class _Said(NamedTuple):
    since: float
    times: int


class _NotAgainAndAgain(logging.Filter):
    """Lets a library's line pass five times a minute; the next that passes says how many did not (``left_out``)."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, int], _Said] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written. Lines are the same that come from one place of the library's code."""
        if record.name.partition(".")[0] not in _TALKATIVE:
            return True
        place, now = (record.pathname, record.lineno), time.monotonic()
        said = self._said.get(place, _Said(now, 0))
        if now - said.since > _SAME_SECONDS:
            if said.times > _SAME_MAX:
                record.left_out = said.times - _SAME_MAX
            said = _Said(now, 0)
        self._said[place] = said._replace(times=said.times + 1)
        return said.times < _SAME_MAX


class _JsonLines(logging.StreamHandler[Any]):
    """Writes lines, and where one cannot be made, a line that says so: logging itself would write a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as logging calls it
        kind = sys.exc_info()[0]
        if record.name == __name__ or (kind is not None and issubclass(kind, OSError)):
            return  # Nobody reads any more.
        logger(__name__).error(
            "a line could not be written",
            of=record.name,
            place=f"{record.pathname}:{record.lineno}",
            error=None if kind is None else kind.__name__,
        )


def masked(value: Any) -> Any:
    """``value`` with the shapes of keys masked, however deep they lie in it."""
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, dict):
        return {masked(key): masked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [masked(item) for item in value]
    if isinstance(value, (int, type(None))) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return mask_text(str(value))


def _redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {key: value if key.startswith("_") else masked(value) for key, value in event.items()}


def configure_logs(level: str, service: str) -> None:
    """Send this process's logs, its libraries' included, to standard error."""

    def name_service(_logger: Any, _method: str, event: EventDict) -> EventDict:
        return {"service": service, **event}

    shared: list[Processor] = [
        # What is known of the request or the records that are being worked on, on libraries' lines, too.
        structlog.contextvars.merge_contextvars,
        name_service,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    logging.captureWarnings(capture=True)
    handler = _JsonLines(sys.stderr)
    handler.addFilter(_NotAgainAndAgain())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _redact,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for library in _TALKATIVE:
        most = _ON_THE_WIRE.get(library, logging.DEBUG)
        logging.getLogger(library).setLevel(most if level.upper() == "DEBUG" else logging.WARNING)
    logging.getLogger(_OF_A_BUSY_MACHINE).setLevel(logging.ERROR)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def log_crashes() -> None:
    """Have what nobody caught logged, in any thread and in the interpreter, instead of written out as it is."""
    crashes = logger("crash")

    def crashed(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            crashes.critical("nobody caught this", exc_info=(kind, error, trace))

    def crashed_elsewhere(told: Any) -> None:
        crashed(told.exc_type, told.exc_value, told.exc_traceback)

    sys.excepthook, threading.excepthook, sys.unraisablehook = crashed, crashed_elsewhere, crashed_elsewhere


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one module."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return bound
