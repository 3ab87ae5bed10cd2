"""The Faust application, in the one shape that loses nothing: raw bytes, manual acks, an agent that never raises."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NoReturn, cast

import faust
from faust.auth import Credentials, OAuthCredentials, SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from schemas.topics import USAGE_EVENTS
from services.metering.settings import StreamSettings
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
    """Faust's consumer, except for where a partition begins after an assignment."""

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
    """The app, not yet started."""
    return LedgerApp(
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
        stream_buffer_maxsize=settings.metering_batch_records,
        # A batch that waits for a dead database must not hold up a shutdown: its events come again.
        stream_wait_empty=False,
    )
