"""Leases of customers' keys: how long one serves, when it is asked for again, and when it is dropped.

Pure: the clock and the chance are passed in, and nothing here waits or sends. ``sync_leases`` and ``async_leases`` do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any, Literal, NamedTuple, NoReturn

from byok_sdk.errors import NoOwnKeyError, RegistryAwayError
from byok_sdk.secret import Secret

Otherwise = Literal["raise", "platform"]
"""What to do where no key of the customer's own applies: a choice of the runner's, and never silent."""

FRESH_SECONDS = 60.0
NEGATIVE_SECONDS = 5.0
AFTER_END_SECONDS = 300.0
"""How long after its end a lease serves while the registry is away: claims of it are accepted for so long."""
_EARLY = (0.7, 0.9)
_RETRY_SECONDS = 2.0
_LEASES_MAX = 10_000


class LeaseKey(NamedTuple):
    """Who is about to use whose models."""

    org_id: str
    user_id: str
    team_id: str | None
    provider: str

    def body(self) -> dict[str, str]:
        """As POST /v1/lease takes it."""
        return {name: value for name, value in self._asdict().items() if value is not None}


@dataclass(frozen=True)
class Lease:
    """Which key applies, and the key. Not pickled, and printed without the key."""

    provider: str
    source: Literal["byok", "platform"]
    reason: str
    """Why that one (docs/contract.md, section 4)."""
    credential_id: str | None
    at: datetime
    """When the registry answered, by its clock."""
    expires_at: datetime
    ttl_seconds: float
    key: LeaseKey
    _secret: Secret | None = field(default=None, repr=False, compare=False)

    @property
    def secret(self) -> str | None:
        """The customer's key; None where the platform's applies, which is the runner's own."""
        return None if self._secret is None else self._secret.reveal()

    @property
    def claim(self) -> dict[str, str]:
        """What an event says that was used: ``credential`` of docs/contract.md, section 3."""
        if self.source == "byok" and self.credential_id is not None:
            return {"source": "byok", "credential_id": self.credential_id}
        return {"source": "platform"}

    def or_otherwise(self, otherwise: Otherwise) -> Lease:
        """This lease; raises NoOwnKeyError where it is the platform's and the runner wants none of it."""
        if self.source == "platform" and otherwise == "raise":
            raise NoOwnKeyError(self.provider, self.reason)
        return self

    def __reduce__(self) -> NoReturn:
        """Refused: what is pickled lies on a disk, or in a queue."""
        raise TypeError("a lease is not pickled or copied; lease again")


def lease_of(key: LeaseKey, told: Mapping[str, Any]) -> Lease:
    """The registry's answer as a lease. Raises RegistryAwayError where it is none."""
    try:
        return Lease(
            provider=told["provider"],
            source="byok" if told["source"] == "byok" else "platform",
            reason=told["reason"],
            credential_id=told["credential_id"],
            at=_time(told["at"]),
            expires_at=_time(told["expires_at"]),
            ttl_seconds=float(told["ttl_seconds"]),
            key=key,
            _secret=None if told["secret"] is None else Secret(told["secret"]),
        )
    except (KeyError, TypeError, ValueError):
        # Without the cause, whose text and traceback could hold the key.
        raise RegistryAwayError("its answer is no lease") from None


def _time(text: str) -> datetime:
    # Python 3.10 reads no Z.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


class Next(Enum):
    """What to do for who asks for a lease."""

    USE = auto()
    """It is fresh."""
    USE_AND_REFRESH = auto()
    """It is fresh, and whoever asked is to fetch the next one meanwhile."""
    FETCH = auto()
    """There is none that is fresh: fetch one, and wait for it."""


@dataclass
class _Entry:
    lease: Lease
    refresh_at: float
    fresh_until: float
    serves_until: float
    refreshing: bool = False


@dataclass
class Flight:
    """A request that is under way. Only one is for each key; ``outdated`` where something changed since it began."""

    key: LeaseKey
    began: float
    outdated: bool = False


class LeaseCache:
    """What is known of leases. Not locked: whoever uses it from threads does that."""

    def __init__(self, clock: Callable[[], float], chance: Callable[[float, float], float] = random.uniform) -> None:
        """``clock`` is monotonic, in seconds."""
        self._clock, self._chance = clock, chance
        self._entries: dict[LeaseKey, _Entry] = {}
        self._flights: dict[LeaseKey, Flight] = {}

    def look(self, key: LeaseKey) -> tuple[Next, Lease | None]:
        """What to do, and the lease where there is one to use."""
        entry, now = self._entries.get(key), self._clock()
        if entry is None or now >= entry.fresh_until:
            return Next.FETCH, None
        if now < entry.refresh_at or entry.refreshing:
            return Next.USE, entry.lease
        entry.refreshing = True
        return Next.USE_AND_REFRESH, entry.lease

    def begin(self, key: LeaseKey) -> Flight | None:
        """A request may begin now; None where one for the same key is under way, whose answer is everybody's."""
        if key in self._flights:
            return None
        flight = self._flights[key] = Flight(key, self._clock())
        return flight

    def landed(self, flight: Flight, lease: Lease) -> bool:
        """Keep what came; False, and nothing is kept, where a change came meanwhile and it is to be asked again."""
        self._flights.pop(flight.key, None)
        if flight.outdated:
            return False
        ttl = min(FRESH_SECONDS, lease.ttl_seconds) if lease.source == "byok" else NEGATIVE_SECONDS
        # From before it was asked for: an answer that took long is no younger for that.
        refresh_at = flight.began + ttl * self._chance(*_EARLY)
        serves_until = flight.began + lease.ttl_seconds + AFTER_END_SECONDS
        self._entries[flight.key] = _Entry(lease, refresh_at, flight.began + ttl, serves_until)
        self._bound()
        return True

    def failed(self, flight: Flight) -> Lease | None:
        """The registry is away: the lease that may serve all the same for a while, if there is one."""
        self._flights.pop(flight.key, None)
        entry, now = self._entries.get(flight.key), self._clock()
        if entry is None or flight.outdated:
            return None
        if now >= entry.serves_until:
            del self._entries[flight.key]
            return None
        entry.refreshing = False
        # Not every call waits for what does not answer; asked again soon, by one of them.
        entry.refresh_at = now + _RETRY_SECONDS
        entry.fresh_until = max(entry.fresh_until, min(now + 2 * _RETRY_SECONDS, entry.serves_until))
        return entry.lease

    def refused(self, flight: Flight) -> None:
        """The registry said no: what was known before is no longer so."""
        self._flights.pop(flight.key, None)
        self._entries.pop(flight.key, None)

    def drop(self, org_id: str | None = None, provider: str | None = None) -> int:
        """Drop what is of an organization (None: of all) and provider (None: any), "no key" included; how many."""

        def concerns(key: LeaseKey) -> bool:
            return org_id in (None, key.org_id) and provider in (None, key.provider)

        for flight in self._flights.values():
            flight.outdated = flight.outdated or concerns(flight.key)
        dropped = [key for key in self._entries if concerns(key)]
        for key in dropped:
            del self._entries[key]
        return len(dropped)

    def _bound(self) -> None:
        while len(self._entries) > _LEASES_MAX:
            del self._entries[next(iter(self._entries))]
