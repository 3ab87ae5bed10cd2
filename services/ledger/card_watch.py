"""Every rate card there is, for the door: known only while it is certain that none is missing.

The topic of the registry says it first, and as it is compacted it says all of it. It is read to its end again and
again, and what was known longer ago than seconds is not known any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from schemas.topics import REGISTRY_CHANGES
from services.domain.directory import Change, Directory, directory_of
from services.ledger.admission import KnownCards
from services.messages.registry_changes import UnreadableChangeError, read_change, to_change
from services.runtime.background import patiently_until
from services.runtime.broker_refusals import cause, client_options
from services.runtime.kafka_access import KafkaAccess
from services.runtime.logs import logger

_log = logger(__name__)

_PARTITION = TopicPartition(REGISTRY_CHANGES.name, 0)
_LOOK_SECONDS = 0.5
_FRESH_SECONDS = 5.0
_ASK_MS = 2_000
# They move what an event costs, but not whether it has a price; and there may be millions of them.
_NO_PRICES = (b"credential:", b"plan:")


class CardWatch:
    """Follows the registry's topic, for as long as it runs."""

    def __init__(self, access: KafkaAccess, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` tells seconds from any beginning, and never goes back."""
        self._kafka = access
        self._clock = clock
        self._seq = 0
        self._changes: dict[int, Change] = {}
        self._directory: Directory | None = None
        self._known: KnownCards | None = None

    def known(self) -> KnownCards | None:
        """All rate cards; None while it is not certain that these are all."""
        known = self._known
        return known if known is not None and self._clock() - known.at < _FRESH_SECONDS else None

    def run(self, stop: threading.Event) -> None:
        """Follow until ``stop`` is set, however long it takes to connect."""
        try:
            patiently_until(stop, partial(self._follow, stop), _failed)
        except UnreadableChangeError as error:
            _log.error("a rate card cannot be read, so that nothing is refused for its price", detail=str(error))

    def _follow(self, stop: threading.Event) -> None:
        consumer = KafkaConsumer(
            **client_options(self._kafka),
            client_id="byok-ledger-cards",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        with closing(consumer):
            consumer.assign([_PARTITION])
            consumer.seek_to_beginning(_PARTITION)
            while not stop.is_set():
                if self._look(consumer):
                    stop.wait(_LOOK_SECONDS)

    def _look(self, consumer: KafkaConsumer) -> bool:
        """Take in what there is; whether that is all."""
        asked_at = self._clock()
        # Raises where the broker does not answer. The embedded one tells too little here, but never too much.
        end = consumer.end_offsets([_PARTITION], timeout_ms=_ASK_MS)[_PARTITION]
        for records in consumer.poll(timeout_ms=int(_LOOK_SECONDS * 1000)).values():
            self._take_in(records)
        highwater = consumer.highwater(_PARTITION)
        if highwater is None or consumer.position(_PARTITION) < max(end, highwater):
            return False
        if self._directory is not None:
            self._known = KnownCards(self._directory, self._seq, asked_at)
        return True

    def _take_in(self, records: Iterable[ConsumerRecord]) -> None:
        more = False
        for record in records:
            if record.value is None or record.key is None:
                continue
            seq = _seq_of(record.value)
            self._seq = max(self._seq, seq)
            if not record.key.startswith(_NO_PRICES) and seq not in self._changes:
                self._changes[seq] = to_change(read_change(record.value))
                more = True
        if more:
            # A new one, for others are reading the one before. What is newest of each card, it knows by the numbers.
            self._directory = directory_of(self._changes)


def _failed(error: Exception) -> None:
    # A client that breaks in its own way must not end the watch.
    if isinstance(error, UnreadableChangeError):
        raise error
    _log.warning("whether all rate cards are known is not certain", error=cause(error))


def _seq_of(payload: bytes) -> int:
    try:
        return int(orjson.loads(payload)["seq"])
    except (ValueError, TypeError, KeyError):
        raise UnreadableChangeError("registry change: it has no seq") from None
