"""Runs and acts for asyncio: as ``runs``, and nothing waits for a disk or a service on the event loop."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from inspect import isawaitable
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
    from byok_sdk.async_leases import AsyncLeases

_log = logging.getLogger("byok_sdk")

T = TypeVar("T")
Record = Callable[[bytes], Awaitable[None]]


class AsyncAct:
    """One step that asks a model; as ``Act``."""

    def __init__(self, events: ActEvents, record: Record) -> None:
        """Made by ``AsyncRun.act``; from here on identity and time are fixed."""
        self._events, self._record = events, record
        self._streams: list[AsyncMeteredStream[Any]] = []
        self._nothing = False

    async def record(
        self,
        reply: Any,
        lease: Lease | None = None,
        *,
        provider: str | None = None,
        more: Mapping[str, int] | None = None,
        conditions: Mapping[str, str] | None = None,
    ) -> Usage:
        """Record what an answer used; as ``Act.record``."""
        provider = provider_of(provider, lease)
        return await self._keep(with_more(usage_of(reply, provider), more or {}, conditions or {}), provider, lease)

    def stream(
        self,
        events: AsyncIterable[T],
        lease: Lease | None = None,
        *,
        provider: str | None = None,
        estimate: Estimate | None = None,
    ) -> AsyncMeteredStream[T]:
        """The events as they come, for an ``async for``; as ``Act.stream``."""
        provider = provider_of(provider, lease)
        seen = StreamUsage(provider, estimate)
        metered = AsyncMeteredStream(events, seen, lambda usage: self._keep(usage, provider, lease))
        self._streams.append(metered)
        return metered

    async def usage(
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
        """Record counts that the runner knows; as ``Act.usage``."""
        usage = Usage(model, units, conditions or {}, status, response_id, cost_usd)
        return await self._keep(usage, provider_of(provider, lease), lease)

    def nothing(self) -> None:
        """No provider was called: the answer came from a cache, say."""
        self._nothing = True

    async def _keep(self, usage: Usage, provider: str, lease: Lease | None) -> Usage:
        await self._record(self._events.answered(usage, provider, lease))
        self._events.recorded()
        return usage

    async def __aenter__(self) -> AsyncAct:
        """The act itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As ``Act``: streams that were left early are recorded, and an act without usage is an error."""
        for stream in self._streams:
            await stream.leave(error)
        if error is None and not self._nothing and not self._events.answers:
            raise ActNotRecordedError


class AsyncMeteredStream(AsyncIterator[T]):
    """Passes the events of one answer on, and records what they say of its usage, once."""

    def __init__(self, events: AsyncIterable[T], seen: StreamUsage, keep: Callable[[Usage], Awaitable[Usage]]) -> None:
        """Made by ``AsyncAct.stream``."""
        self._source, self._events = events, aiter(events)
        self._seen, self._keep = seen, keep
        self._done = False
        self.used: Usage | None = None
        """What was recorded, once it was."""

    def __aiter__(self) -> AsyncMeteredStream[T]:
        """Itself."""
        return self

    async def __anext__(self) -> T:
        """The next event."""
        try:
            event = await anext(self._events)
        except StopAsyncIteration:
            await self._finish(cut=False)
            raise
        except BaseException as error:
            await self.leave(error)
            raise
        self._seen.see(event)
        return event

    async def leave(self, error: BaseException | None) -> None:
        """Leave it, for an error or for none: what the runner hears of is the error."""
        try:
            await self.close()
        except UsageError as unread:
            if error is None:
                raise
            _log.error("a stream that was cut is not recorded: %s", unread)

    async def close(self) -> None:
        """Leave it: what came so far is recorded as partial, unless its end has come."""
        try:
            await self._finish(cut=not self._seen.ended)
        finally:
            close = getattr(self._source, "aclose", None) or getattr(self._source, "close", None)
            if callable(close) and isawaitable(closing := close()):
                await closing

    async def _finish(self, *, cut: bool) -> None:
        if not self._done:
            self._done = True
            self.used = await self._keep(self._seen.result(cut=cut))


class AsyncRun:
    """What is done for one person, under one run id or none; as ``Run``."""

    def __init__(self, events: RunEvents, record: Record, leases: AsyncLeases) -> None:
        """Made by ``AsyncMeter.run``."""
        self._events, self._record, self._leases = events, record, leases

    @property
    def run_id(self) -> str | None:
        """Its id; without one events are known by the ids of the provider's answers."""
        return self._events.whose.run_id

    async def key(self, provider: str, otherwise: Otherwise = "raise") -> Lease:
        """The key that applies now; as ``Run.key``."""
        whose = self._events.whose
        key = LeaseKey(whose.org_id, whose.user_id, whose.team_id, provider)
        return (await self._leases.get(key)).or_otherwise(otherwise)

    async def rejected(self, lease: Lease, error: object = None, otherwise: Otherwise = "raise") -> Lease:
        """The provider does not take the key (401, 403): report it, drop it, and ask once more which one applies."""
        self._leases.drop(lease.key.org_id, lease.provider)
        await self._leases.report(lease, "rejected", None if error is None else str(error))
        return await self.key(lease.provider, otherwise)

    async def report(self, lease: Lease, outcome: Outcome, detail: str | None = None) -> bool:
        """Say how a key fared; as ``Run.report``."""
        return await self._leases.report(lease, outcome, detail)

    async def with_key(self, provider: str, use: Callable[[Lease], Awaitable[T]], otherwise: Otherwise = "raise") -> T:
        """``await use(lease)``, once more where the provider answers 401 or 403; as ``Run.with_key``."""
        lease = await self.key(provider, otherwise)
        try:
            return await use(lease)
        except Exception as error:
            if rejected_status(error) is None or lease.source == "platform":
                raise
            again = await self.rejected(lease, error, otherwise)
            if again.secret == lease.secret:
                raise
        return await use(again)

    def act(
        self, step: str, *, agent: str | None = None, key: str | None = None, at: datetime | None = None
    ) -> AsyncAct:
        """A step that asks a model; as ``Run.act``."""
        return AsyncAct(self._events.act(step, agent, key, at), self._record)

    def tags(self, step: str, *, agent: str | None = None, lease: Lease | None = None) -> dict[str, str]:
        """What to hand to whoever makes the calls of a step; as ``Run.tags``."""
        return tags_of(self._events.whose, step, agent, lease)

    async def node(
        self, node: str, *, provider: str, model: str, calls: int = 1, lease: Lease | None = None, **more: Any
    ) -> None:
        """Record that a node of a workflow called a model. ``more``: ``key`` and ``at``, as for ``act``."""
        await self._record(self._events.node(node, provider, model, calls, lease, **more))

    async def tool(self, tool: str, *, calls: int = 1, succeeded: bool = True, **more: Any) -> None:
        """Record calls of a tool; those that failed are free. ``more``: ``key`` and ``at``, as for ``act``."""
        await self._record(self._events.tool(tool, calls, succeeded=succeeded, **more))

    async def workflow(self, workflow_id: str, *, parent_run_id: str | None = None, **more: Any) -> None:
        """Record the run itself. ``more``: ``key`` and ``at``, as for ``act``."""
        await self._record(self._events.workflow(workflow_id, parent_run_id, **more))

    async def __aenter__(self) -> AsyncRun:
        """The run itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing: all that is recorded is on disk already."""
