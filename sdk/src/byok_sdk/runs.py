"""Runs and acts for threads: what a runner writes around its calls of providers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from byok_sdk.acts import ActEvents, RunEvents, provider_of, rejected_status
from byok_sdk.errors import ActNotRecordedError, UsageError
from byok_sdk.leases import Lease, LeaseKey, Otherwise
from byok_sdk.observed import tags_of
from byok_sdk.registry_calls import Outcome
from byok_sdk.usage.extraction import usage_of, with_more
from byok_sdk.usage.measured import Status, Usage
from byok_sdk.usage.streams import Estimate, StreamUsage

if TYPE_CHECKING:
    from byok_sdk.emitter import Emitter
    from byok_sdk.sync_leases import Leases

_log = logging.getLogger("byok_sdk")

T = TypeVar("T")


class Act:
    """One step that asks a model. Leave it with its usage recorded, with an error, or with ``nothing()``."""

    def __init__(self, events: ActEvents, emitter: Emitter) -> None:
        """Made by ``Run.act``; from here on identity and time are fixed."""
        self._events, self._emitter = events, emitter
        self._streams: list[MeteredStream[Any]] = []
        self._nothing = False

    def record(
        self,
        reply: Any,
        lease: Lease | None = None,
        *,
        provider: str | None = None,
        more: Mapping[str, int] | None = None,
        conditions: Mapping[str, str] | None = None,
    ) -> Usage:
        """Record what an answer used, a dict or an object of the provider's package; once it returns, it is kept.

        ``more`` are units and ``conditions`` circumstances that the answer does not tell (searches that are billed
        apart, that it came from a batch). Call it for each answer that was billed. Raises UsageError where the usage
        cannot be read for sure, and NotRecordedError where the disk does not take it.
        """
        provider = provider_of(provider, lease)
        return self._keep(with_more(usage_of(reply, provider), more or {}, conditions or {}), provider, lease)

    def stream(
        self,
        events: Iterable[T],
        lease: Lease | None = None,
        *,
        provider: str | None = None,
        estimate: Estimate | None = None,
    ) -> MeteredStream[T]:
        """The events as they come, for a loop; recorded at their end, or as ``partial`` where they are cut.

        A stream that is cut before it told anything is recorded with the units of ``estimate``; without one leaving it
        raises UsageMissingError.
        """
        provider = provider_of(provider, lease)
        seen = StreamUsage(provider, estimate)
        metered = MeteredStream(events, seen, lambda usage: self._keep(usage, provider, lease))
        self._streams.append(metered)
        return metered

    def usage(
        self,
        *,
        model: str,
        provider: str | None = None,
        lease: Lease | None = None,
        conditions: Mapping[str, str] | None = None,
        status: Status = "final",
        response_id: str | None = None,
        cost_usd: str | None = None,
        **units: int,
    ) -> Usage:
        """Record counts that the runner knows: ``usage(model="…", input=1200, output=80, cache_read=1000)``."""
        usage = Usage(model, units, conditions or {}, status, response_id, cost_usd)
        return self._keep(usage, provider_of(provider, lease), lease)

    def nothing(self) -> None:
        """No provider was called: the answer came from a cache, say."""
        self._nothing = True

    def _keep(self, usage: Usage, provider: str, lease: Lease | None) -> Usage:
        self._emitter.record(self._events.answered(usage, provider, lease))
        self._events.recorded()
        return usage

    def __enter__(self) -> Act:
        """The act itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record streams that were left early. Raises ActNotRecordedError where nothing was recorded, and why is not
        said.
        """
        for stream in self._streams:
            stream.leave(error)
        if error is None and not self._nothing and not self._events.answers:
            raise ActNotRecordedError


class MeteredStream(Iterator[T]):
    """Passes the events of one answer on, and records what they say of its usage, once."""

    def __init__(
        self,
        events: Iterable[T],
        seen: StreamUsage,
        keep: Callable[[Usage], Usage],
    ) -> None:
        """Made by ``Act.stream``."""
        self._source, self._events = events, iter(events)
        self._seen, self._keep = seen, keep
        self._done = False
        self.used: Usage | None = None
        """What was recorded, once it was."""

    def __iter__(self) -> MeteredStream[T]:
        """Itself."""
        return self

    def __next__(self) -> T:
        """The next event."""
        try:
            event = next(self._events)
        except StopIteration:
            self._finish(cut=False)
            raise
        except BaseException as error:
            self.leave(error)
            raise
        self._seen.see(event)
        return event

    def leave(self, error: BaseException | None) -> None:
        """Leave it, for an error or for none: what the runner hears of is the error."""
        try:
            self.close()
        except UsageError as unread:
            if error is None:
                raise
            _log.error("a stream that was cut is not recorded: %s", unread)

    def close(self) -> None:
        """Leave it: what came so far is recorded as partial, unless its end has come."""
        try:
            self._finish(cut=not self._seen.ended)
        finally:
            close = getattr(self._source, "close", None)
            if callable(close):
                close()

    def _finish(self, *, cut: bool) -> None:
        if self._done:
            return
        self._done = True
        self.used = self._keep(self._seen.result(cut=cut))


class Run:
    """What is done for one person, under one run id or none."""

    def __init__(self, events: RunEvents, emitter: Emitter, leases: Leases) -> None:
        """Made by ``Meter.run``."""
        self._events, self._emitter, self._leases = events, emitter, leases

    @property
    def run_id(self) -> str | None:
        """Its id; without one events are known by the ids of the provider's answers."""
        return self._events.whose.run_id

    def key(self, provider: str, otherwise: Otherwise = "raise") -> Lease:
        """The key that applies now, asked for anew at every call: it costs microseconds while nothing changed.

        Where none of the customer's own applies: ``otherwise="raise"`` raises NoOwnKeyError, ``"platform"`` gives a
        lease without a secret. Raises RegistryAwayError where nobody can say.
        """
        return self._leases.get(self._key(provider)).or_otherwise(otherwise)

    def rejected(self, lease: Lease, error: object = None, otherwise: Otherwise = "raise") -> Lease:
        """The provider does not take the key (401, 403): report it, drop it, and ask once more which one applies."""
        self._leases.drop(lease.key.org_id, lease.provider)
        self._leases.report(lease, "rejected", None if error is None else str(error))
        return self.key(lease.provider, otherwise)

    def report(self, lease: Lease, outcome: Outcome, detail: str | None = None) -> bool:
        """Say how a key fared: ``exhausted`` where its quota is used up, ``accepted`` where it works again."""
        return self._leases.report(lease, outcome, detail)

    def with_key(self, provider: str, use: Callable[[Lease], T], otherwise: Otherwise = "raise") -> T:
        """``use(lease)``; where the provider answers 401 or 403, once more with the key that applies then, if it is
        another. What ``use`` raises else goes through.
        """
        lease = self.key(provider, otherwise)
        try:
            return use(lease)
        except Exception as error:
            if rejected_status(error) is None or lease.source == "platform":
                raise
            again = self.rejected(lease, error, otherwise)
            if again.secret == lease.secret:
                raise
        return use(again)

    def act(self, step: str, *, agent: str | None = None, key: str | None = None, at: datetime | None = None) -> Act:
        """A step that asks a model; ``agent`` is shown with its entries (else the step).

        Steps of one name are told apart by the order in which they begin, or by ``key``. ``at`` is when it began,
        where a durable workflow knows better than the clock.
        """
        return Act(self._events.act(step, agent, key, at), self._emitter)

    def tags(self, step: str, *, agent: str | None = None, lease: Lease | None = None) -> dict[str, str]:
        """What to hand to whoever makes the calls of a step, an agent's framework say, so that its hook
        (``byok_sdk.hooks``) records them for this run; ``lease`` is what is called with.
        """
        return tags_of(self._events.whose, step, agent, lease)

    def node(
        self, node: str, *, provider: str, model: str, calls: int = 1, lease: Lease | None = None, **more: Any
    ) -> None:
        """Record that a node of a workflow called a model. ``more``: ``key`` and ``at``, as for ``act``."""
        self._emitter.record(self._events.node(node, provider, model, calls, lease, **more))

    def tool(self, tool: str, *, calls: int = 1, succeeded: bool = True, **more: Any) -> None:
        """Record calls of a tool; those that failed are free. ``more``: ``key`` and ``at``, as for ``act``."""
        self._emitter.record(self._events.tool(tool, calls, succeeded=succeeded, **more))

    def workflow(self, workflow_id: str, *, parent_run_id: str | None = None, **more: Any) -> None:
        """Record the run itself. ``more``: ``key`` and ``at``, as for ``act``."""
        self._emitter.record(self._events.workflow(workflow_id, parent_run_id, **more))

    def __enter__(self) -> Run:
        """The run itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing: all that is recorded is on disk already."""

    def _key(self, provider: str) -> LeaseKey:
        whose = self._events.whose
        return LeaseKey(whose.org_id, whose.user_id, whose.team_id, provider)
