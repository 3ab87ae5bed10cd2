"""Every rate card there is, for the door: known only while it is certain that none is missing.

The topic of the registry says it first, and as it is compacted it says all of it. It is read to its end again and
again, and what was known longer ago than seconds is not known any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from schemas.topics import REGISTRY_CHANGES
from services.domain.directory import Change, Directory, directory_of
from services.ledger.admission import KnownCards
from services.messages.registry_changes import UnreadableChangeError, read_change, to_change
from services.runtime.backoff import delays
from services.runtime.logs import logger

_log = logger(__name__)

_PARTITION = TopicPartition(REGISTRY_CHANGES.name, 0)
_LOOK_SECONDS = 0.5
_FRESH_SECONDS = 5.0
_ASK_MS = 2_000
# They move what an event costs, but not whether it has a price; and there may be millions of them.
_NO_PRICES = (b"credential:", b"plan:")


class CardWatch:
    """Follows the registry's topic in a thread of its own."""

    def __init__(self, bootstrap: str, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` tells seconds from any beginning, and never goes back."""
        self._bootstrap = bootstrap
        self._clock = clock
        self._seq = 0
        self._changes: dict[bytes, tuple[int, Change]] = {}
        self._directory: Directory | None = None
        self._known: KnownCards | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="card-watch", daemon=True)

    def start(self) -> None:
        """Begin to follow, however long it takes to connect."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no more."""
        self._stopped.set()

    def known(self) -> KnownCards | None:
        """All rate cards; None while it is not certain that these are all."""
        known = self._known
        return known if known is not None and self._clock() - known.at < _FRESH_SECONDS else None

    def _run(self) -> None:
        for delay in delays():
            try:
                self._follow()
            except UnreadableChangeError as error:
                _log.error("a rate card cannot be read, so that nothing is refused for its price", detail=str(error))
                return
            except Exception as error:  # noqa: BLE001 - a client that breaks in its own way must not end the watch
                _log.warning("whether all rate cards are known is not certain", error=type(error).__name__)
            if self._stopped.wait(delay):
                return

    def _follow(self) -> None:
        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap.split(","),
            client_id="byok-ledger-cards",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        with closing(consumer):
            consumer.assign([_PARTITION])
            consumer.seek_to_beginning(_PARTITION)
            while not self._stopped.is_set():
                self._look(consumer)

    def _look(self, consumer: KafkaConsumer) -> None:
        asked_at = self._clock()
        # Raises where the broker does not answer. The embedded one tells too little here, but never too much.
        end = consumer.end_offsets([_PARTITION], timeout_ms=_ASK_MS)[_PARTITION]
        for records in consumer.poll(timeout_ms=int(_LOOK_SECONDS * 1000)).values():
            self._take_in(records)
        highwater = consumer.highwater(_PARTITION)
        if highwater is None or consumer.position(_PARTITION) < max(end, highwater):
            return
        if self._directory is not None:
            self._known = KnownCards(self._directory, self._seq, asked_at)
        self._stopped.wait(_LOOK_SECONDS)

    def _take_in(self, records: Iterable[ConsumerRecord]) -> None:
        more = False
        for record in records:
            if record.value is None or record.key is None:
                continue
            seq = _seq_of(record.value)
            self._seq = max(self._seq, seq)
            known = self._changes.get(record.key)
            if not record.key.startswith(_NO_PRICES) and (known is None or known[0] < seq):
                self._changes[record.key] = (seq, to_change(read_change(record.value)))
                more = True
        if more:
            # A new one, for others are reading the one before.
            self._directory = directory_of(self._changes.values())


def _seq_of(payload: bytes) -> int:
    try:
        return int(orjson.loads(payload)["seq"])
    except (ValueError, TypeError, KeyError):
        raise UnreadableChangeError("registry change: it has no seq") from None
