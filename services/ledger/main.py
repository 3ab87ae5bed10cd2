"""The ledger service: what it consists of, and how it is run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from fastapi import FastAPI
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from schemas.topics import USAGE_EVENTS
from services.books.schema import LEDGER
from services.ledger.admission import Door
from services.ledger.api import install_refusal_handlers, router
from services.ledger.card_watch import CardWatch
from services.ledger.conservation import ConservationWatch
from services.ledger.database import open_engine
from services.ledger.dead_letter_quota import DeadLetterQuota
from services.ledger.event_schemas import describe_events
from services.ledger.handlers import Handlers
from services.ledger.ingest import RECORD_BYTES_MAX, UsagePublisher
from services.ledger.metrics import door_refusals, ledger_metrics
from services.ledger.recorded_changes import RecordedChanges
from services.ledger.registry import RegistryView
from services.ledger.repository import EntryRepository
from services.ledger.settings import LedgerSettings
from services.runtime.background import in_background
from services.runtime.logs import configure_logs, log_crashes, logger
from services.runtime.rate_limit import RateLimit
from services.runtime.request_bodies import BodyBounds
from services.runtime.spans import configure_spans
from services.runtime.tokens import TokenVerifier
from services.runtime.web import ReadinessCheck, create_app, serve

_log = logger(__name__)

BODY_BYTES_MAX = 4 * 1024 * 1024

_DESCRIPTION = """The credit ledger: usage events in, entries, sums, receipts and quotes out. Amounts are integers in
microcredits (mc, 10^-6 credit); times are RFC 3339 in UTC; intervals are half-open."""


def build_app(settings: LedgerSettings) -> FastAPI:
    """The application; what it needs starts and stops with it. Raises SettingsError for a setting that is missing."""
    engine = open_engine(settings.ledger_dsn.get_secret_value())
    publisher = UsagePublisher(settings.kafka)
    conservation = ConservationWatch(engine, USAGE_EVENTS.name)
    entries = EntryRepository(engine)
    cards = CardWatch(settings.kafka)
    quota = DeadLetterQuota(engine, settings.ingest_dead_letters_per_hour)

    metrics = ledger_metrics(engine, conservation)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with (
            publisher.connected(),
            in_background("conservation", conservation.run),
            in_background("card-watch", cards.run),
            in_background("dead-letter-quota", quota.run),
        ):
            yield
        engine.dispose()

    app = create_app(
        title="BYOK credit ledger",
        description=_DESCRIPTION,
        metrics=metrics,
        checks={"database": _database_check(engine), "broker": publisher.unready},
        bodies=BodyBounds.of(settings, BODY_BYTES_MAX),
        lifespan=lifespan,
    )
    app.state.tokens = TokenVerifier(settings)
    app.state.ingest_limit = RateLimit(settings.ingest_rate_limit_per_second, settings.ingest_rate_limit_burst)
    app.state.export_seconds = settings.export_seconds
    door = Door(cards, RecordedChanges(entries.newest_change).newest, quota, on_rejected=door_refusals(metrics))
    app.state.handlers = Handlers(
        entries,
        RegistryView(entries),
        publisher,
        door,
        record_bytes_max=RECORD_BYTES_MAX,
        platform=settings.platform_name,
    )
    install_refusal_handlers(app)
    app.include_router(router)
    describe_events(app)
    return app


def _database_check(engine: Engine) -> ReadinessCheck:
    begun = False

    def check() -> str | None:
        nonlocal begun
        try:
            with engine.connect() as connection:
                version = connection.execute(text("SELECT version_num FROM ledger.alembic_version")).scalar()
        except SQLAlchemyError:
            return "the database cannot be reached or has no schema; run byok db upgrade"
        # Upgraded beneath a service that runs, it goes on being read: migrations take nothing away.
        why = LEDGER.lacks(version) or (None if begun else LEDGER.exceeds(version))
        begun = begun or why is None
        return why

    return check


def _require_database(settings: LedgerSettings) -> None:
    """Raise SchemaMismatch. A database that is away is waited for: /readyz tells, also what is wrong with it then."""
    try:
        LEDGER.require_at(settings.ledger_dsn.get_secret_value(), "ledger-start")
    except psycopg.Error as error:
        _log.warning("the database cannot be looked at yet", error=type(error).__name__)


def run(settings: LedgerSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError before anything starts."""
    configure_logs(settings.log_level, "ledger")
    log_crashes()
    configure_spans(settings, "ledger")
    _require_database(settings)
    serve(build_app(settings), settings, settings.ledger_port)
