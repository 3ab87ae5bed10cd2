"""The Kafka side of every process: which cluster it is, and a producer that never loses order."""

from __future__ import annotations

import math
import time

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError

from schemas.topics import MESSAGE_BYTES_MAX
from services.runtime.backoff import delays
from services.runtime.logs import logger

_log = logger(__name__)

METADATA_MS = 10_000
"""How old at most a client's knowledge of the cluster is. aiokafka, which looks for the beginning of a partition where
its leader was, asks anew only then: by default after five minutes."""

_ASK_SECONDS, _ASK_SECONDS_MIN = 30.0, 0.5


def wait_for_cluster_id(bootstrap: str, *, timeout_seconds: float = math.inf) -> str:
    """The id of the cluster: offsets mean something only within one. Waits for a broker that is away.

    Raises KafkaError when it stays away for ``timeout_seconds``.
    """
    deadline = time.monotonic() + timeout_seconds
    for delay in delays():
        left = deadline - time.monotonic()
        try:
            return _cluster_id(bootstrap, min(max(left, _ASK_SECONDS_MIN), _ASK_SECONDS))
        except KafkaError as error:
            if time.monotonic() + delay > deadline:
                raise
            _log.warning("waiting for the broker", error=type(error).__name__)
            time.sleep(delay)
    raise AssertionError("delays have no end")


def _cluster_id(bootstrap: str, timeout_seconds: float) -> str:
    timeout_ms = int(timeout_seconds * 1000)
    admin = KafkaAdminClient(
        bootstrap_servers=bootstrap.split(","),
        client_id="byok-cluster-id",
        bootstrap_timeout_ms=timeout_ms,
        request_timeout_ms=timeout_ms,
    )
    try:
        return str(admin.describe_cluster()["cluster_id"])
    finally:
        admin.close()


def kafka_producer(bootstrap: str, client_id: str, *, timeout_seconds: float) -> KafkaProducer:
    """A producer that is acknowledged by all in-sync replicas and sends nothing twice.

    Its futures fail after ``timeout_seconds``; later sends may succeed while earlier ones fail (docs/design.md, Kafka
    clients), so whoever needs order keeps the prefix before the first failure, closes this producer, and goes on from
    there.
    """
    return KafkaProducer(
        bootstrap_servers=bootstrap.split(","),
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
