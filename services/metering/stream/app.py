"""The Faust application: it joins the group, fetches, and hands what it fetched to whoever books, in lists.

Faust keeps the group, the assignment, the flow and the commits. It has no stream and no agent, which spend several
tasks on each message, and acknowledge what failed (docs/adr/0023-the-shape-of-faust.md).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn, cast

import faust
from faust.auth import Credentials, OAuthCredentials, SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from schemas.topics import USAGE_EVENTS
from services.metering.booking.pricing import Record
from services.metering.settings import StreamSettings
from services.metering.stream.intake import Intake
from services.metering.stream.record_headers import read_headers
from services.runtime.kafka_access import KafkaAccess, SecurityProtocol
from services.runtime.kafka_clients import METADATA_MS, aiokafka_options
from services.runtime.logs import logger
from services.runtime.record_log import read_tolerantly

_log = logger(__name__)

_POSITIONS_SECONDS = 5.0
_FETCH_MAX_WAIT_MS = 200
_PATIENCE_SECONDS = 30 * 24 * 3600.0

Beginnings = Callable[[Sequence[int]], Awaitable[dict[int, int]]]


class LedgerApp(faust.App):
    """A Faust app that begins each partition where the ledger says, not where Kafka's committed offset does."""

    beginnings: Beginnings
    intake: Intake
    ready = False
    """Whether partitions have been assigned, and their beginnings found, at least once."""
    assigned_at = math.inf
    """When partitions were assigned last, in seconds since 1970."""

    def _create_directories(self) -> None:
        """None: we have no tables, and a worker that is killed must leave nothing lying around."""

    async def wait_until_it_ends(self) -> NoReturn:
        """Wait for what should not happen; raises what Faust crashed with. It does not end the process by itself."""
        await self.wait_until_stopped()
        raise self.crash_reason or RuntimeError("Faust has stopped")

    def _new_transport(self) -> Any:
        return LedgerTransport(self.conf.broker_consumer, self)

    @property
    def partitions(self) -> list[int]:
        """The partitions of the usage events that this worker has now."""
        return [tp.partition for tp in _usage_partitions(self.consumer.assignment())]

    def tell_booked(self, records: Iterable[Record]) -> None:
        """Have Kafka told, with the next commit, how far these partitions are booked: a hint, for whoever watches."""
        cast(LedgerConsumer, self.consumer).booked |= {
            TP(USAGE_EVENTS.name, record.partition): record.offset + 1 for record in records
        }

    def unfetched(self, seconds: float) -> list[int]:
        """The partitions of which the broker has told nothing for so long, though they were asked about.

        Not those whose records wait here: of them no more is asked for.
        """
        since = time.time() - seconds
        if self.assigned_at > since:
            return []
        consumer = cast(Any, self.consumer)._thread._consumer
        waiting, assignment = set(consumer._fetcher._records), consumer._subscription.subscription.assignment
        # Asked from another thread than that of the consumer, which may just be losing some: those have no state.
        states = {tp: assignment.state_value(tp) for tp in _usage_partitions(self.consumer.assignment())}
        return [
            tp.partition
            for tp, state in states.items()
            if state is not None and tp not in waiting and not state.paused and (state.timestamp or 0) / 1000 < since
        ]


class PromptConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread with three settings of our own: a shorter fetch, committed records only, any bytes."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust waits for 1,500 ms, and the embedded broker answers a waiting fetch only when half of that is over.
        consumer._fetch_max_wait_ms = _FETCH_MAX_WAIT_MS
        # What a producer took back was never used, and must not be charged.
        consumer._isolation_level = "read_committed"
        # One batch that aiokafka cannot read would end every worker, and again after every restart.
        read_tolerantly(consumer)
        return consumer


class LedgerConsumer(driver.Consumer):
    """Faust's consumer, except for where a partition begins after an assignment, and for what becomes of a fetch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As Faust makes it."""
        super().__init__(*args, **kwargs)
        self.booked: dict[TP, int] = {}
        """The next offset of each partition of which something was booked; Faust commits what is new of it."""

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109 - as Faust calls it
        """Put what a fetch brings into the intake; for Faust's own loop, which asks for it, nothing is left."""
        app = cast(LedgerApp, self.app)
        await app.intake.wait_room()
        fetched, _ = await self._wait_next_records(timeout)
        if self.flow_active and not self.should_stop:
            ours = self._get_active_partitions()
            records = [_record(each) for tp, records in (fetched or {}).items() if tp in ours for each in records]
            await app.intake.put(records)
        elif not self.should_stop:
            await self._seek_again()
        return
        yield

    async def _seek_again(self) -> None:
        """Partitions are on the move, and what was just fetched, by the positions of before, is not taken."""
        try:
            await self.perform_seek()
        except Exception as error:  # noqa: BLE001 - the move itself ends with a seek, whose failure ends the worker
            _log.warning("could not seek while partitions move", error=type(error).__name__)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:  # noqa: ARG002 - all are of one topic
        return iter(list(self.booked))

    def _new_offset(self, tp: TP) -> int:
        return self.booked[tp]

    def _new_consumer_thread(self) -> PromptConsumerThread:
        return PromptConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Seek behind what the ledger has booked, or to the beginning of the log, in every partition.

        None is left to aiokafka, which looks for the beginning where its leader was. While the ledger is away the hint
        has to do: gaps are filled when they show.
        """
        await super().perform_seek()
        app = cast(LedgerApp, self.app)
        app.ready, app.assigned_at = True, time.time()
        partitions = _usage_partitions(self.assignment())
        try:
            async with asyncio.timeout(_POSITIONS_SECONDS):
                beginnings = await app.beginnings([tp.partition for tp in partitions])
        except TimeoutError:
            _log.warning("the ledger database is away, starting from the committed offsets")
            return
        # Not ``seek``, which does it in the calling thread, beside the one that fetches: that one then falls over a
        # buffer that is gone, and Faust fetches nothing any more.
        await self.seek_wait({tp: beginnings[tp.partition] for tp in partitions if tp.partition in beginnings})


class LedgerTransport(driver.Transport):
    """Faust's aiokafka transport with our consumer."""

    Consumer = LedgerConsumer


def _record(fetched: Any) -> Record:
    seconds = fetched.timestamp / 1000
    return read_headers(Record(fetched.partition, fetched.offset, fetched.key, fetched.value, seconds), fetched.headers)


def _usage_partitions(assignment: Iterable[TP]) -> list[TP]:
    return sorted(tp for tp in assignment if tp.topic == USAGE_EVENTS.name)


def _credentials(access: KafkaAccess) -> Credentials | None:
    """What Faust tells aiokafka, which is what every other consumer is told."""
    if access.protocol is SecurityProtocol.PLAINTEXT:
        return None
    told = aiokafka_options(access)
    tls = told.get("ssl_context")
    if not access.protocol.has_sasl:
        return SSLCredentials(tls)
    if access.token_file is not None:
        return OAuthCredentials(oauth_cb=told["sasl_oauth_token_provider"], ssl_context=tls)
    return SASLCredentials(
        username=told["sasl_plain_username"],
        password=told["sasl_plain_password"],
        mechanism=told["sasl_mechanism"],
        ssl_context=tls,
    )


def create_faust_app(settings: StreamSettings) -> LedgerApp:
    """The app, not yet started; what it fetches goes to its ``intake``."""
    app = LedgerApp(
        settings.consumer_group,
        broker=";".join(f"aiokafka://{server}" for server in settings.kafka.servers),
        broker_credentials=_credentials(settings.kafka),
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        web_enabled=False,
        # Topics are created with their contract's settings, by `byok up` or by operators, never by a worker.
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_MS,
        # A compressed batch may hold millions of records: no more of them are made at once than one batch takes.
        broker_max_poll_records=settings.metering_batch_records,
        broker_session_timeout=6.0,
        broker_heartbeat_interval=2.0,
        broker_commit_interval=1.0,
        # A batch may have to wait for days, for the database or for the end of a pause. Nothing is fetched meanwhile,
        # and a worker that left its group for that never comes back: measured. One that hangs is seen by its lag, and
        # needs no hint of Faust's every few seconds.
        broker_max_poll_interval=_PATIENCE_SECONDS,
        broker_commit_livelock_soft_timeout=_PATIENCE_SECONDS,
        stream_processing_timeout=_PATIENCE_SECONDS,
        # A batch that waits for a dead database must not hold up a shutdown: its events come again.
        stream_wait_empty=False,
    )
    app.intake = Intake(settings.metering_batch_records, settings.metering_linger_seconds)
    app.on_partitions_revoked.connect(lambda *_args, **_kwargs: app.intake.clear(), weak=False)
    app.topics.add(app.topic(USAGE_EVENTS.name, key_type=bytes, value_type=bytes))
    return app
