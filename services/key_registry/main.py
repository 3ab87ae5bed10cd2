"""The key registry as a process: its parts put together, started and stopped."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from types import FrameType

import psycopg.errors
import sqlalchemy.exc
from sqlalchemy import text

from services.key_registry.api.callers import CallLimits
from services.key_registry.api.routes import BODY_BYTES_MAX, registry_app
from services.key_registry.database.schema import REGISTRY
from services.key_registry.database.sessions import Sessions, open_engine, sessions_on, watch_writes
from services.key_registry.handlers.cards import RateCardConflict, publish_rate_card
from services.key_registry.handlers.models import publish_aliases
from services.key_registry.handlers.registry import Registry
from services.key_registry.keyring.envelopes import keyring_of
from services.key_registry.log.relay import OutboxRelay
from services.key_registry.metrics import registry_metrics
from services.key_registry.model_aliases import packaged_aliases
from services.key_registry.providers.checks import provider_checks
from services.key_registry.rate_cards import packaged_cards
from services.key_registry.rules.completeness import Completeness, LogBehindError
from services.key_registry.settings import RegistrySettings
from services.key_registry.sweeper import sweep_on
from services.runtime.background import in_background, patiently_until
from services.runtime.connections import ConnectionBounds
from services.runtime.last_failure import LastFailure
from services.runtime.logs import configure_logs, log_crashes, logger
from services.runtime.request_bodies import BodyBounds
from services.runtime.settings import SettingsError
from services.runtime.spans import configure_spans, flush_spans
from services.runtime.tokens import TokenVerifier
from services.runtime.web import ReadinessCheck, server

_log = logger(__name__)

# After how long a thread that computes lets another go on. The one that leases waits for the database again and again,
# and each time, with Python's 5 ms, for whatever is being computed meanwhile.
_TURN_SECONDS = 0.0005
# Of Python's 700 a few requests at once are made, and hardly anything of them is garbage in circles.
_MADE_BEFORE_A_SWEEP = 10_000


def run(settings: RegistrySettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError when it cannot start, and says what to do."""
    configure_logs(settings.log_level, "key_registry")
    log_crashes()
    configure_spans(settings, "registry")
    # While the broker is away its client writes a hundred lines where the relay writes one.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    sys.setswitchinterval(_TURN_SECONDS)
    stop = threading.Event()
    # uvicorn raises the signal again when it is done; then it must not end us before we have cleaned up.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _setter(stop))
    engine, completeness = open_engine(settings.registry_dsn.get_secret_value()), Completeness()
    try:
        registry = Registry(
            sessions_on(engine, completeness),
            keyring_of(settings),
            checks=provider_checks(settings),
            rotation_undo=timedelta(seconds=settings.rotation_undo_seconds),
        )
        tokens = TokenVerifier(settings)
        relay = OutboxRelay(settings, completeness, partial(_publish, registry.sessions))
        patiently_until(stop, partial(_begin, settings, relay, registry.sessions), _database_away)
        if stop.is_set():
            return
        metrics, checks = registry_metrics(registry.sessions), readiness(registry, relay, watch_writes(engine))
        bodies = BodyBounds.of(settings, BODY_BYTES_MAX)
        limits, impaired = CallLimits.of(settings), {"broker": relay.impaired}
        app = registry_app(registry, tokens, metrics, checks, limits, bodies, impaired)
        with (
            in_background("outbox-relay", relay.run, stop_seconds=3),
            in_background("sweeper", partial(sweep_on, registry.sessions), stop_seconds=5),
        ):
            _spare_requests_from_sweeps()
            bounds = ConnectionBounds.of(settings)
            server(app, settings.host, settings.registry_port, settings.trusted_proxies, bounds=bounds).run()
    finally:
        engine.dispose()
        flush_spans()


def _spare_requests_from_sweeps() -> None:
    """Keep the garbage collector away from what is there before the first request, and stays: to look through all of it
    now and then holds everybody up for 0.1 s."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_MADE_BEFORE_A_SWEEP)


def _begin(settings: RegistrySettings, relay: OutboxRelay, sessions: Sessions) -> None:
    """Find out whether the log is whole, and only then publish the cards that ship with us: they take numbers, too."""
    REGISTRY.require_at(settings.registry_dsn.get_secret_value(), "key-registry-start")
    try:
        relay.begin()
    except LogBehindError as error:
        raise SettingsError(str(error)) from None
    except psycopg.ProgrammingError as error:
        raise SettingsError(_refused_by_database(error)) from None
    if relay.completeness.is_confirmed:
        _publish(sessions)


def _publish(sessions: Sessions) -> None:
    """Raises SettingsError where the database is not migrated, or a card of the same name says something else."""
    try:
        for document in packaged_cards():
            publish_rate_card(sessions, document)
        for aliases in packaged_aliases():
            publish_aliases(sessions, aliases)
    except sqlalchemy.exc.ProgrammingError as error:
        raise SettingsError(_refused_by_database(error.orig)) from None
    except RateCardConflict as error:
        raise SettingsError(f"the packaged rate cards do not fit this database: {error}") from None


def _database_away(error: Exception) -> None:
    if not isinstance(error, (psycopg.OperationalError, sqlalchemy.exc.OperationalError)):
        raise error
    _log.warning("waiting for the database", detail=str(getattr(error, "orig", error)).partition("\n")[0])


def readiness(registry: Registry, relay: OutboxRelay, writes: LastFailure) -> Mapping[str, ReadinessCheck]:
    """What must hold before the service can do its work. An outage of the broker later on does not end that: keys are
    resolved and leased without it. It is told as what impairs the service, and who waits for a change, by its age."""
    return {
        "database": lambda: _database_problem(registry.sessions),
        "writes": writes.unready,
        "outbox": relay.unready,
        "log": relay.completeness.unready,
    }


def _database_problem(sessions: Sessions) -> str | None:
    try:
        with sessions.begin() as session:
            found = session.connection().execute(text("SELECT version_num FROM registry.alembic_version")).scalar()
    except (sqlalchemy.exc.DBAPIError, sqlalchemy.exc.TimeoutError) as error:
        return f"the database cannot be read ({type(error).__name__})"
    return REGISTRY.lacks(found)


def _refused_by_database(error: BaseException | None) -> str:
    if isinstance(error, (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)):
        return "the registry database is not migrated; run byok db upgrade"
    return f"the registry database refuses its service: {type(error).__name__}; run byok db upgrade"


def _setter(stop: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    return handle
