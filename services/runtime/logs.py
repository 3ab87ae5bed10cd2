"""Structured logs on standard error, one JSON object a line. No key gets through: the last step masks their shapes."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from services.domain.masking import mask_text

_TALKATIVE = ("aiokafka", "alembic", "faust", "httpcore", "httpx", "kafka", "mode", "uvicorn")
"""Libraries that say at level INFO what only their own developers want to know."""

_ON_THE_WIRE = {"aiokafka": logging.INFO, "httpcore": logging.WARNING, "httpx": logging.WARNING, "kafka": logging.INFO}
"""Libraries that below these levels log what they send and receive: customers' events, in which no mask would hold, and
the addresses and headers of what we ask."""


def masked(value: Any) -> Any:
    """``value`` with the shapes of keys masked, however deep they lie in it."""
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, dict):
        return {masked(key): masked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [masked(item) for item in value]
    if isinstance(value, (int, float, type(None))):
        return value
    return mask_text(str(value))


def _redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {key: value if key.startswith("_") else masked(value) for key, value in event.items()}


def configure_logs(level: str, service: str) -> None:
    """Send this process's logs, its libraries' included, to standard error."""

    def name_service(_logger: Any, _method: str, event: EventDict) -> EventDict:
        return {"service": service, **event}

    shared: list[Processor] = [
        name_service,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(sys.stderr)
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
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one module."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return bound
