"""One file on its way: asked about, sent, and followed until it is known what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

import psycopg
from kafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from services.cli.settings import PublishSettings
from services.cli.usage.booked import Booked
from services.cli.usage.identity import LINE
from services.cli.usage.job import Job
from services.cli.usage.moved import Books, ContentGuard, Guard, LineGuard, MemoryGuard, MovedError
from services.cli.usage.outcome import Outcome, SentRecords, await_outcome
from services.cli.usage.pacing import Pacer
from services.cli.usage.prices import PriceCheck
from services.cli.usage.producer import LateProducer
from services.cli.usage.publication import Check, DryRun, Publication
from services.cli.usage.rejected_rows import RejectedRows
from services.cli.usage.remembered import Remembered
from services.cli.usage.sender import BatchSender, SendFailed
from services.cli.usage.sources import Lines, Rows
from services.cli.usage.sums import SumCheck
from services.runtime.broker import wait_for_cluster_id
from services.runtime.broker_refusals import BrokerRefused
from services.runtime.command_failed import AWAY, CommandFailed
from services.runtime.database import connect

_ROWS_PER_UPDATE = 500
_ALL_THE_SAME = (
    " This is what was sent from this machine, for there is no ledger to ask: where what was sent first was refused, "
    "--id-from line sends the line as it is now."
)


@dataclass
class Ledger:
    """The ledger's database, where there is one to ask."""

    booked: Booked
    prices: Callable[[], PriceCheck]
    since: datetime

    @classmethod
    def of(cls, settings: PublishSettings, stack: ExitStack) -> Ledger | None:
        """Connects. Raises psycopg.Error."""
        if settings.ledger_dsn is None:
            return None
        dsn = settings.ledger_dsn.get_secret_value()
        connection = stack.enter_context(connect(dsn, "usage-publish", autocommit=True))
        booked = Booked(connection)
        return cls(booked, lambda: PriceCheck.with_ledger(connection), booked.now())


class Run:
    """One file, published, and what became of it."""

    def __init__(
        self, job: Job, settings: PublishSettings, rejected: RejectedRows, ledger: Ledger | None, console: Console
    ) -> None:
        """Publishes, and waits for what becomes of it. Raises CommandFailed, psycopg.Error and KafkaError."""
        self._job, self._settings, self._rejected, self._ledger = job, settings, rejected, ledger
        self.error: str | None = None
        """Why the run broke off."""
        self.is_moved = self.is_interrupted = False
        self.out_of_sight: str | None = None
        """Why the ledger could not be asked."""
        self.outcome: Outcome | None = None
        """What became of the events; None where nobody looked."""
        self.selection, self.identity = job.selection(), job.identity()
        self.prices = self._prices() if job.dry_run or job.how.sums is not None else None
        self.sender: BatchSender | DryRun = DryRun()
        self._sent = SentRecords()
        began = time.monotonic()
        with job.open() as file:
            self._publish(file, console)
        self.seconds = time.monotonic() - began
        if (
            self._ledger is not None
            and self.sender.events
            and job.wait_seconds > 0
            and not (self.is_interrupted or self.out_of_sight)
        ):
            self._look_after(self._ledger, console)

    @property
    def is_blind(self) -> bool:
        """Whether there is no ledger that could say what becomes of what was sent."""
        return self._ledger is None and self.sender.events > 0

    @property
    def first(self) -> str:
        """The first good event."""
        return self.publication.first.decode()

    def _prices(self) -> PriceCheck:
        return PriceCheck.with_packaged_cards() if self._ledger is None else self._ledger.prices()

    def _publish(self, file: BinaryIO, console: Console) -> None:
        job, lines = self._job, Lines(file)
        rows, builder = job.rows(file, lines, self.selection, self.identity)
        self.builder = builder
        self.publication = Publication(
            builder,
            self._rejected,
            skip_empty=job.how.skip_empty,
            guard=self._guard(),
            checks=self._checks(),
        )
        try:
            with self._connected() as self.sender, _progress(job, lines, console) as show:
                pacer = None if job.pace is None or job.dry_run else Pacer(job.pace)
                self.publication.run(_watched(rows, show), self.sender, pacer)
        except SendFailed as failure:
            self.error = f"The broker {self._settings.kafka.bootstrap} did not take everything: {failure}"
        except MovedError as moved:
            self.error, self.is_moved = f"Refused: {moved}", True
        except psycopg.Error as failure:
            self.error = f"The ledger's database does not answer ({type(failure).__name__}); what follows was not sent."
            self.out_of_sight = type(failure).__name__
        except KeyboardInterrupt:
            self.error, self.is_interrupted = f"Interrupted after line {lines.number}.", True

    def _guard(self) -> Guard | None:
        """What looks whether ids stand for other events. Without a ledger, a dry run asks nobody."""
        job = self._job

        def of(books: Books, advice: str = "") -> Guard:
            return LineGuard(books, job.source, advice) if job.is_by_line else ContentGuard(books, job.source)

        if self._ledger is not None:
            return of(self._ledger.booked)
        if job.dry_run or LINE in job.how.id_from:
            return None
        return MemoryGuard(self._remembered, lambda memory: of(memory, _ALL_THE_SAME))

    def _remembered(self) -> Remembered | None:
        try:
            return Remembered.open(self._cluster_id())
        except BrokerRefused as refused:
            raise CommandFailed(str(refused), AWAY) from None
        except KafkaError as error:
            raise SendFailed(f"it cannot be reached ({type(error).__name__})") from error

    def _cluster_id(self) -> str:
        """Ids and offsets mean something only within one cluster. Raises KafkaError."""
        return wait_for_cluster_id(self._settings.kafka, timeout_seconds=self._settings.kafka_timeout_seconds)

    def _checks(self) -> list[Check]:
        job, prices = self._job, self.prices
        if prices is None:
            return []
        sums = [] if job.how.sums is None else [SumCheck(job.how.sums, prices.directory, job.read_time)]
        return [*sums, *([prices] if job.dry_run else [])]

    @contextmanager
    def _connected(self) -> Iterator[BatchSender | DryRun]:
        if self._job.dry_run:
            yield DryRun()
            return
        timeout = self._settings.kafka_timeout_seconds
        producer = LateProducer(self._settings.kafka, timeout)
        heard = None if self._ledger is None else self._sent.add
        try:
            yield BatchSender(producer, self._job.batch_events, timeout_seconds=timeout, acknowledged=heard)
        finally:
            producer.close()

    def _look_after(self, ledger: Ledger, console: Console) -> None:
        try:
            self.outcome = self._await_outcome(ledger, console)
        except (psycopg.Error, KafkaError) as failure:
            self.out_of_sight = type(failure).__name__
        except KeyboardInterrupt:
            self.error, self.is_interrupted = "Interrupted while metering was waited for; all of it was sent.", True

    def _await_outcome(self, ledger: Ledger, console: Console) -> Outcome:
        cluster_id = self._cluster_id()
        with console.status("Waiting for metering …"):
            outcome = await_outcome(ledger.booked, cluster_id, self._sent, ledger.since, seconds=self._job.wait_seconds)
        for row in outcome.refused:
            self._rejected.add_row(row)
        return outcome


@contextmanager
def _progress(job: Job, lines: Lines, console: Console) -> Iterator[Callable[[], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    # Nothing is drawn where standard error is no terminal.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(job.file.name, total=job.size())
        yield lambda: progress.update(task, completed=lines.bytes_read)


def _watched(rows: Rows, show: Callable[[], None]) -> Rows:
    for count, row in enumerate(rows):
        if count % _ROWS_PER_UPDATE == 0:
            show()
        yield row
