"""The metering worker: wiring, and a shutdown that is bounded whatever is away."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import NoReturn

import uvloop

from schemas.topics import REGISTRY_CHANGES, USAGE_DEAD_LETTERS, USAGE_EVENTS
from services.books.schema import require_ledger
from services.domain.directory import Directory
from services.metering.booking.book_records import BookRecords
from services.metering.booking.ledger_writer import Booked, LedgerWriter
from services.metering.booking.pricing import ReadRecord
from services.metering.dead_letters.pauser import Pauser
from services.metering.dead_letters.relay import DeadLetterRelay
from services.metering.dead_letters.share import Limit
from services.metering.metrics import MeteringMetrics
from services.metering.readiness import Readiness
from services.metering.registry_follower import RegistryFollower
from services.metering.rerating.rerater import Rerater
from services.metering.sequencer import Sequencer
from services.metering.settings import MeteringSettings
from services.metering.stream.app import LedgerApp, create_faust_app
from services.metering.stream.gap_reader import GapReader, LogTruncatedError
from services.metering.stream.intake import book_what_comes
from services.metering.upkeep.upkeep import Keep, Upkeep
from services.runtime.background import in_background, patiently
from services.runtime.broker import wait_for_cluster_id
from services.runtime.broker_refusals import Right
from services.runtime.connections import ConnectionBounds
from services.runtime.database import is_outage
from services.runtime.logs import configure_logs, log_crashes, logger
from services.runtime.request_bodies import BodyBounds
from services.runtime.settings import SettingsError
from services.runtime.spans import configure_spans, flush_spans
from services.runtime.topics import warn_of_differences
from services.runtime.web import create_app, server

_log = logger(__name__)

_STOP_SECONDS = 8.0
# More than the batches at work consist of; of garbage it would be some tens of megabytes.
_MADE_BEFORE_A_SWEEP = 500_000
# The thread that writes waits that long for its turn when the one that reads is busy, several times a batch.
_TURN_SECONDS = 0.001
_BODY_BYTES_MAX = 1_000


def run(settings: MeteringSettings) -> None:
    """Meter until SIGTERM or SIGINT. Exits with 1 where the worker may not go on, with 2 where its ledger
    is of another release; what was not booked comes again."""
    configure_logs(settings.log_level, "metering")
    log_crashes()
    configure_spans(settings, "metering")
    sys.setswitchinterval(_TURN_SECONDS)
    uvloop.run(_Worker(settings).serve())


class _Worker:
    def __init__(self, settings: MeteringSettings) -> None:
        self._settings = settings
        self._ledger_dsn = settings.ledger_dsn.get_secret_value()
        directory = Directory()
        self._follower = RegistryFollower(self._ledger_dsn, settings.kafka, directory)
        self._rerater = Rerater(self._ledger_dsn, self._follower.copy_of_log)
        self._gaps = GapReader(settings.kafka, USAGE_EVENTS.name)
        self._pauser = Pauser(self._ledger_dsn, _limit(settings))
        self._readiness = Readiness(self._ledger_dsn, self._follower, self._rerater, self._pauser)
        self._metrics = MeteringMetrics(
            lambda: directory.seq,
            self._readiness.lag,
            lambda: self._pauser.pause is not None,
            lambda: self._pauser.failing,
        )

    async def serve(self) -> NoReturn:
        """Work until told to stop, or until something says that nobody may go on; then end the process."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        self._serve_http()
        fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        work = asyncio.create_task(self._work(fatal))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await self._shut_down(work, exit_status=_why_ended(work.exception()) if work.done() else 0)

    async def _work(self, fatal: asyncio.Future[None]) -> None:
        looked_at = partial(asyncio.to_thread, require_ledger, self._ledger_dsn, "metering-start")
        await patiently(looked_at, _database_away)
        cluster_id = await asyncio.to_thread(self._wait_for_cluster_id)
        # What is read now stays; to look through it again and again would take a third of the time.
        gc.set_threshold(_MADE_BEFORE_A_SWEEP)
        # Beside each other: nobody waits for a warning.
        await asyncio.gather(asyncio.to_thread(warn_of_differences, self._settings.kafka), self._follower.catch_up())
        _spare_batches_from_sweeps()
        relay = DeadLetterRelay(self._ledger_dsn, self._settings.kafka, self._settings.kafka_timeout_seconds)
        upkeep = Upkeep(self._ledger_dsn, _keep(self._settings))
        loop = asyncio.get_running_loop()

        def died(error: Exception) -> None:
            loop.call_soon_threadsafe(_fail, fatal, error)

        with (
            in_background("rerater", self._rerater.run, died=died),
            in_background("dead-letter-relay", relay.run, died=died),
            in_background("sequencer", Sequencer(self._ledger_dsn).run, died=died),
            # Nothing that is booked depends on it: should it die, the log says so, and the worker goes on.
            in_background("upkeep", upkeep.run),
        ):
            writer = LedgerWriter(self._ledger_dsn, cluster_id, USAGE_EVENTS.name)
            # A restart forgets no pause: what is known before there are partitions is told before anybody calls it
            # ready.
            await self._pauser.look()
            book = self._readiness.book = self._book_records(writer)
            app = self._readiness.app = await self._start_faust(book, fatal)
            await asyncio.gather(
                book_what_comes(app.intake, book, app.tell_booked),
                self._follower.follow(),
                self._pauser.watch(),
                self._readiness.watch_ends(self._gaps),
                app.wait_until_it_ends(),
                fatal,
            )

    def _wait_for_cluster_id(self) -> str:
        def waiting(why: str) -> None:
            self._readiness.broker = f"the broker cannot be used yet ({why})"

        # What is refused later on ends Faust, and with it the worker; so nothing begins before all is allowed.
        rights = [
            Right("Read", "topic", USAGE_EVENTS.name),
            Right("Read", "topic", REGISTRY_CHANGES.name),
            Right("Write", "topic", USAGE_DEAD_LETTERS.name),
            Right("Read", "group", self._settings.consumer_group),
        ]
        cluster_id = wait_for_cluster_id(self._settings.kafka, rights=rights, waiting=waiting)
        self._readiness.broker = None
        return cluster_id

    def _book_records(self, writer: LedgerWriter) -> BookRecords:
        return BookRecords(
            writer,
            self._follower,
            self._gaps,
            self._pauser,
            clock=lambda: datetime.now(UTC),
            events_max=self._settings.metering_batch_events,
            on_booked=self._observe,
        )

    async def _start_faust(self, book: BookRecords, fatal: asyncio.Future[None]) -> LedgerApp:
        app = create_faust_app(self._settings)
        app.beginnings = partial(self._beginnings, book, fatal)
        for rebalanced in (app.on_partitions_assigned, app.on_partitions_revoked):
            rebalanced.connect(lambda *_args, **_kwargs: book.forget_positions(), weak=False)
        await app.start()
        return app

    async def _beginnings(
        self, book: BookRecords, fatal: asyncio.Future[None], partitions: Sequence[int]
    ) -> dict[int, int]:
        booked = await book.positions(partitions)
        try:
            # Where nothing is left of the log, no record would ever come that shows the loss.
            return await self._gaps.beginnings(partitions, booked)
        except LogTruncatedError as error:
            _fail(fatal, error)
        except ConnectionError:
            _log.warning("the beginning of the log is not known, starting all the same")
        return booked

    def _observe(self, records: Sequence[ReadRecord], booked: Booked) -> None:
        self._metrics.observe(records, time.time(), booked.seconds)
        _log.debug("booked", recorded=booked.recorded, duplicates=booked.duplicates, dead_letters=booked.dead_letters)

    def _serve_http(self) -> None:
        app = create_app(
            title="BYOK metering",
            description="Health and metrics of one metering worker.",
            metrics=self._metrics.registry,
            checks=self._readiness.checks,
            bodies=BodyBounds.of(self._settings, _BODY_BYTES_MAX),
        )
        settings = self._settings
        bounds = ConnectionBounds.of(settings)
        http = server(app, settings.host, settings.metering_port, settings.trusted_proxies, bounds=bounds)
        threading.Thread(target=http.run, name="http", daemon=True).start()

    async def _shut_down(self, work: asyncio.Task[None], *, exit_status: int) -> NoReturn:
        # Never by way of the loop's own end, which waits without limit for threads that wait for what is away. Logs are
        # written out line by line, and nothing else that matters is left to do.
        in_time = threading.Timer(_STOP_SECONDS, os._exit, (exit_status,))
        in_time.daemon = True
        in_time.start()
        work.cancel()
        with suppress(Exception):
            if self._readiness.app is not None:
                await self._readiness.app.stop()
            await self._follower.stop()
            await self._gaps.stop()
            await asyncio.to_thread(flush_spans)
        os._exit(exit_status)


def _spare_batches_from_sweeps() -> None:
    """Keep the garbage collector away from what is not garbage: the directory, which stays, and the events of batches,
    which go without it. What it is for, cycles, is still swept, for it counts what has been made and not let go."""
    gc.collect()
    gc.freeze()


def _limit(settings: MeteringSettings) -> Limit:
    return Limit(
        settings.metering_pause_share,
        settings.metering_pause_window_seconds,
        settings.metering_pause_min_events,
        settings.metering_pause_spares_largest,
    )


def _database_away(error: Exception) -> None:
    if not is_outage(error):
        raise error
    _log.warning("waiting for the ledger database", error=type(error).__name__)


def _why_ended(error: BaseException | None) -> int:
    """Log why the worker cannot go on; the exit status that it comes to."""
    if isinstance(error, SettingsError):
        _log.critical("cannot start", error=str(error))
        return 2
    _log.critical("the worker cannot go on", exc_info=error)
    return 1


def _keep(settings: MeteringSettings) -> Keep:
    return Keep(
        settings.metering_merge_after_seconds,
        settings.metering_dead_letter_days,
        settings.metering_replayable_dead_letter_days,
    )


def _fail(fatal: asyncio.Future[None], error: Exception) -> None:
    if not fatal.done():
        fatal.set_exception(error)
