"""Usage under load: a thread that sends events of every kind, late, repeated, conflicting and bad, from a seed."""

from __future__ import annotations

import json
import random
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from schemas.topics import BATCH_EVENTS_MAX, USAGE_EVENTS
from tests.faults.sent import Sent, identity
from tests.patience import PATIENCE_SECONDS, wait_for

ORGANIZATIONS = ("acme", "brio", "solo", "dune")
USERS = ("ada", "bob", "cy")
TEAMS = ("red", "blue")
MODELS = (
    # Another name of claude-sonnet-4-6.
    ("anthropic", "anthropic/claude-sonnet-4-6"),
    ("anthropic", "claude-sonnet-4-6"),
    ("openai", "gpt-5"),
    ("google", "gemini-2.5-flash"),
    # Takes no own keys.
    ("mistral", "mistral-large-3"),
)
FIRST_CARD = datetime(2026, 4, 27, tzinfo=UTC)
_WEEKS = timedelta(days=35)
_EDGES = [timedelta(seconds=s, microseconds=us) for s in (0, 0, 300) for us in (-1, 0, 1)]
_PAUSE_SECONDS = 0.015
_CALLS_MAX, _TOKENS_MAX = 10**6, 10**10
_LARGEST_SHARE = 0.1
# 1.5 * 10^15 mc each, of somebody without keys and on one partition: so they are added to one total, with the events of
# others, and it does not fit into 64 bits.
_DEAREST: dict[str, Any] = {"org_id": "whale", "agent_id": "helper", "provider": "openai", "model": "o1-pro"}
_DEAREST |= {"input_tokens": _TOKENS_MAX, "output_tokens": _TOKENS_MAX}
_DEAREST_BATCHES, _DEAREST_PARTITION = 7, 0
# The broker may be away for a while, but what was sent must arrive: the tests count on it.
_DELIVERY_MS = int(1_000 * PATIENCE_SECONDS)


# As other people's producers are set, by their own choice.
COMPRESSIONS = (None, "gzip", "snappy", "lz4", "zstd")


def _producer(bootstrap: str, codec: str | None) -> KafkaProducer:
    return KafkaProducer(
        bootstrap_servers=bootstrap,
        compression_type=codec,
        acks="all",
        enable_idempotence=True,
        linger_ms=2,
        delivery_timeout_ms=_DELIVERY_MS,
        max_block_ms=_DELIVERY_MS,
        request_timeout_ms=5_000,
        reconnect_backoff_max_ms=500,
    )


class Known:
    """What runners know of the registry: the ids of keys, and instants at which something changed."""

    def __init__(self) -> None:
        self.credentials: deque[str] = deque(maxlen=40)
        self.moments: deque[datetime] = deque([datetime(2026, 11, 1, tzinfo=UTC)], maxlen=60)


class EventMaker:
    """Random events, the same for the same seed, as far as the clock and the registry allow."""

    def __init__(self, rng: random.Random, known: Known, prefix: str) -> None:
        self._rng = rng
        self._known = known
        self._prefix = prefix
        self._number = 0

    def __call__(self) -> dict[str, Any]:
        """One well-formed event."""
        make = self._rng.choices(
            [self._node_call, self._token_usage, self._by_unit, self._tool_call, self._workflow_run], [5, 2, 2, 1, 1]
        )
        return self._event(*make[0]())

    def _event(self, event_type: str, data: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        return {
            "specversion": "1.0",
            "id": f"{self._prefix}-{self._number:06}",
            "source": self._rng.choice(["runner-1", "runner-2"]),
            "type": event_type,
            "time": self._time().isoformat(),
            "data": self._common() | data,
        }

    def dearest(self) -> dict[str, Any]:
        """The event that costs most of all that may be sent."""
        return self._event("usage.token_usage.v1", _DEAREST)

    def _common(self) -> dict[str, Any]:
        team = self._rng.choice([None, *TEAMS])
        user, org = self._rng.choice(USERS), self._rng.choices(ORGANIZATIONS, [5, 3, 1, 1])[0]
        return {"org_id": org, "user_id": user} | ({} if team is None else {"team_id": team})

    def _time(self) -> datetime:
        now = datetime.now(UTC)
        kind = self._rng.random()
        if kind < 0.35:
            return now
        if kind < 0.65:
            # Exactly when something changed, or at the very edge of it or of a lease that it ended.
            at = self._rng.choice(list(self._known.moments)) + self._rng.choice(_EDGES)
            return min(max(at, FIRST_CARD), now)
        return max(now - self._rng.random() * _WEEKS, FIRST_CARD)

    def _model(self) -> dict[str, Any]:
        provider, model = self._rng.choice(MODELS)
        return {"provider": provider, "model": model} | self._claim()

    def _claim(self) -> dict[str, Any]:
        kind = self._rng.random()
        if kind < 0.1:
            return {"credential": {"source": "platform"}}
        if kind < 0.3 and self._known.credentials:
            credential_id = self._rng.choice(list(self._known.credentials))
            return {"credential": {"source": "byok", "credential_id": credential_id}}
        return {}

    def _node_call(self) -> tuple[str, dict[str, Any]]:
        return "usage.node_call.v1", {"node": "ask_ai", "calls": self._calls()} | self._model()

    def _calls(self) -> int:
        return _CALLS_MAX if self._rng.random() < _LARGEST_SHARE else self._rng.randint(1, 3)

    def _token_usage(self) -> tuple[str, dict[str, Any]]:
        fresh = self._rng.randrange(10_000)
        tokens = {"input_tokens": fresh, "cached_input_tokens": self._rng.randint(0, fresh)}
        tokens["output_tokens"] = self._rng.randrange(2_000)
        if self._rng.random() < _LARGEST_SHARE:
            tokens |= {"input_tokens": _TOKENS_MAX, "output_tokens": _TOKENS_MAX}
        return "usage.token_usage.v1", {"agent_id": "helper"} | tokens | self._model()

    def _by_unit(self) -> tuple[str, dict[str, Any]]:
        cached, fresh, reasoning = (self._rng.randrange(9_000) for _ in range(3))
        usage = {"input": cached + fresh, "cache_read": cached, "output": reasoning + 1}
        served: dict[str, Any] = {"usage_status": "partial"} if self._rng.random() < 0.1 else {}
        return "usage.token_usage.v2", {"agent_id": "helper", "usage": usage} | served | self._model()

    def _tool_call(self) -> tuple[str, dict[str, Any]]:
        tool = {"tool": "send_mail", "calls": self._calls(), "succeeded": self._rng.random() < 0.8}
        return "usage.tool_call.v1", tool

    def _workflow_run(self) -> tuple[str, dict[str, Any]]:
        parent = {"parent_run_id": "run-0"} if self._rng.random() < 0.3 else {}
        return "usage.workflow_run.v1", {"workflow_id": "flow", "run_id": "run-1"} | parent


class Usage:
    """The sending thread."""

    def __init__(self, bootstrap: str, seed: int, known: Known) -> None:
        self.sent = Sent()
        self.failed: list[BaseException] = []
        self._rng = random.Random(seed)  # noqa: S311 - a seed that repeats is what is wanted
        self._make = EventMaker(self._rng, known, "e")
        self._bootstrap = bootstrap
        self._seed = seed
        # One for each compression, and each partition has its own: what is sent to one keeps its order.
        producers = [_producer(bootstrap, codec) for codec in COMPRESSIONS]
        rng = random.Random(seed + 2)  # noqa: S311
        self._producers = producers
        self._of_partition = [rng.choice(producers) for _ in range(USAGE_EVENTS.partitions)]
        self._futures: list[Any] = []
        self._past: deque[tuple[int, list[dict[str, Any]]]] = deque(maxlen=200)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._run, self._run_aborting)]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Send the last, and wait until all is acknowledged. Fails where anything was not."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        # What was left open is aborted by the broker; its markers must lie before the last records, not after them.
        self._flush()
        wait_for("open transactions to end", self._all_is_decided)
        # A record at the end of every partition, so that what lies before it, control records too, is covered.
        for partition in range(USAGE_EVENTS.partitions):
            self._valid([self._make()], partition)
        self._flush()
        for future in self._futures:
            future.get(timeout=PATIENCE_SECONDS)
        for producer in self._producers:
            producer.close(timeout=PATIENCE_SECONDS)
        if self.failed:
            raise AssertionError("usage could not be sent") from self.failed[0]

    def close(self) -> None:
        """Let go of the broker, whatever is unsent."""
        self._stop.set()
        for producer in self._producers:
            with suppress(KafkaError):
                producer.close(timeout=0)

    def _flush(self) -> None:
        for producer in self._producers:
            producer.flush(timeout=PATIENCE_SECONDS)

    def _all_is_decided(self) -> bool:
        ends = []
        for isolation_level in ("read_committed", "read_uncommitted"):
            consumer = KafkaConsumer(bootstrap_servers=self._bootstrap, isolation_level=isolation_level)
            try:
                partitions = [TopicPartition(USAGE_EVENTS.name, number) for number in range(USAGE_EVENTS.partitions)]
                ends.append(consumer.end_offsets(partitions))
            finally:
                consumer.close()
        return ends[0] == ends[1]

    def _run(self) -> None:
        kinds: list[Callable[[], None]] = [self._single, self._batch, self._again, self._conflict, self._bad]
        try:
            for _ in range(_DEAREST_BATCHES):
                self._valid([self._make.dearest() for _ in range(BATCH_EVENTS_MAX)], _DEAREST_PARTITION)
            # What is sent again and again is smaller.
            self._past.clear()
            while not self._stop.is_set():
                self._rng.choices(kinds, [50, 35, 8, 3, 4])[0]()
                self._stop.wait(_PAUSE_SECONDS)
        except BaseException as error:  # noqa: BLE001 - told by finish
            self.failed.append(error)

    def _single(self) -> None:
        self._valid([self._make()], self._partition())

    def _batch(self) -> None:
        self._valid([self._make() for _ in range(self._rng.randint(2, 12))], self._partition())

    def _again(self) -> None:
        if self._past:
            # As a runner that heard no answer sends it: the same events, wherever they land now.
            self._valid(self._rng.choice(list(self._past))[1], self._partition())

    def _conflict(self) -> None:
        if self._past:
            # After the first one, on its partition: so the first one it is that is booked.
            partition, events = self._past[0]
            event = self._rng.choice(events)
            self._send(event | {"time": "2026-05-02T03:04:05Z"}, partition)
            self.sent.refused("identity_conflict")

    def _bad(self) -> None:
        event = self._make()
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        data = event["data"]
        reason, value = self._rng.choice(
            [
                ("malformed_json", b'{"specversion": "1.0", "id'),
                ("unsupported_type", event | {"type": "usage.unheard_of.v1"}),
                ("invalid_event", event | {"data": data | {"user_id": ""}}),
                ("time_in_future", event | {"time": later}),
            ]
        )
        self._send(value, self._partition())
        self.sent.refused(reason)

    def _partition(self) -> int:
        return self._rng.randrange(USAGE_EVENTS.partitions)

    def _valid(self, events: list[dict[str, Any]], partition: int) -> None:
        self._send(events[0] if len(events) == 1 else events, partition)
        self.sent.valid(events)
        self._past.append((partition, events))

    def _send(self, value: Any, partition: int) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        producer = self._of_partition[partition]
        self._futures.append(producer.send(USAGE_EVENTS.name, value=data, key=b"k", partition=partition))

    def _run_aborting(self) -> None:
        """Transactions that are never committed: some are aborted, some forgotten, as by a producer that died."""
        rng = random.Random(self._seed + 1)  # noqa: S311
        make = EventMaker(rng, Known(), "aborted")
        round_ = 0
        while not self._stop.wait(0.7):
            round_ += 1
            events = [make() for _ in range(3)]
            self.sent.aborted |= {identity(event) for event in events}
            # Whatever becomes of it while the broker is away: without a commit it counts for nothing.
            with suppress(KafkaError):
                self._abort(f"aborting-{round_ % 2}", events, rng, forget=rng.random() < 0.2)

    def _abort(self, name: str, events: list[dict[str, Any]], rng: random.Random, *, forget: bool) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self._bootstrap,
            transactional_id=name,
            compression_type=rng.choice(COMPRESSIONS),
            transaction_timeout_ms=2_000,
            max_block_ms=3_000,
            delivery_timeout_ms=3_000,
            request_timeout_ms=2_000,
        )
        try:
            producer.init_transactions()
            producer.begin_transaction()
            for event in events:
                partition = rng.randrange(USAGE_EVENTS.partitions)
                producer.send(USAGE_EVENTS.name, value=json.dumps(event).encode(), key=b"k", partition=partition)
            producer.flush(timeout=3)
            if not forget:
                producer.abort_transaction()
        finally:
            producer.close(timeout=1)
