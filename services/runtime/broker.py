"""The Kafka side of every process: which cluster it is, and a producer that never loses order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError

from schemas.topics import MESSAGE_BYTES_MAX
from services.runtime.backoff import delays
from services.runtime.broker_refusals import Right, cause, client_options, require
from services.runtime.kafka_access import KafkaAccess, SecurityProtocol
from services.runtime.logs import logger

_log = logger(__name__)

_ASK_SECONDS, _ASK_SECONDS_MIN = 30.0, 0.5


@contextmanager
def admin_client(access: KafkaAccess, client_id: str, timeout_seconds: float) -> Iterator[KafkaAdminClient]:
    """For questions about the cluster, each of which may take so long. Raises KafkaError: BrokerRefused with why."""
    timeout_ms = int(timeout_seconds * 1000)
    admin = KafkaAdminClient(
        **client_options(access), client_id=client_id, bootstrap_timeout_ms=timeout_ms, request_timeout_ms=timeout_ms
    )
    try:
        yield admin
    finally:
        admin.close()


def wait_for_cluster_id(
    access: KafkaAccess,
    *,
    rights: Sequence[Right] = (),
    waiting: Callable[[str], object] = lambda _why: None,
    timeout_seconds: float = math.inf,
) -> str:
    """The id of the cluster: offsets mean something only within one. Waits for a broker that is away or refuses us, or
    one of the ``rights``; ``waiting`` hears why.

    Raises KafkaError when it stays so for ``timeout_seconds``.
    """
    deadline = time.monotonic() + timeout_seconds
    for delay in delays():
        left = deadline - time.monotonic()
        try:
            with admin_client(access, "byok-cluster-id", min(max(left, _ASK_SECONDS_MIN), _ASK_SECONDS)) as admin:
                require(access, admin, rights)
                return str(admin.describe_cluster()["cluster_id"])
        except KafkaError as error:
            if time.monotonic() + delay > deadline:
                raise
            _log.warning("waiting for the broker", error=cause(error))
            waiting(cause(error))
            time.sleep(delay)
    raise AssertionError("delays have no end")


def kafka_producer(access: KafkaAccess, client_id: str, topic: str, *, timeout_seconds: float) -> KafkaProducer:
    """A producer for ``topic`` that is acknowledged by all in-sync replicas and sends nothing twice.

    Its futures fail after ``timeout_seconds``; later sends may succeed while earlier ones fail (docs/design.md, Kafka
    clients), so whoever needs order keeps the prefix before the first failure, closes this producer, and goes on from
    there. Raises KafkaError: BrokerRefused where we may not write.
    """
    if access.protocol is not SecurityProtocol.PLAINTEXT:
        # A producer that may not write hears it only when it sends, and then without the reason.
        with admin_client(access, client_id, timeout_seconds) as admin:
            require(access, admin, [Right("Write", "topic", topic)])
    return KafkaProducer(
        **client_options(access),
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        compression_type="gzip",
        linger_ms=5,
        max_block_ms=int(timeout_seconds * 1000),
        delivery_timeout_ms=int(timeout_seconds * 1000),
        request_timeout_ms=min(10_000, int(timeout_seconds * 500)),
        max_request_size=2 * MESSAGE_BYTES_MAX,
    )
