"""Leases for threads: one request for each key at a time, one thread that follows what changes."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timezone
from typing import TypeVar

import httpx

from byok_sdk.changes import ChangeFeed, Heard
from byok_sdk.delivery import Answer
from byok_sdk.errors import ByokError, ClosedError, RegistryAwayError, RegistryError
from byok_sdk.forking import no_fork, trace
from byok_sdk.leases import Flight, Lease, LeaseCache, LeaseKey, Next
from byok_sdk.registry_calls import Call, Outcome, lease_call, read_lease, read_report, report_call
from byok_sdk.settings import Settings

_log = logging.getLogger("byok_sdk")
_BEGIN_SECONDS = 2.0
_TRIES = 3
_TOO_FAST = "keys change faster than they can be leased"

T = TypeVar("T")
_all: weakref.WeakSet[Leases] = weakref.WeakSet()


class Leases:
    """The leases of one process."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is asked yet."""
        self._settings = settings
        self._closed = threading.Event()
        self._fresh_start()
        _all.add(self)

    def _fresh_start(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[LeaseKey, Future[Lease]] = {}
        self._cache = LeaseCache(time.monotonic)
        self._client: httpx.Client | None = None
        self._feed = ChangeFeed()
        self._following: threading.Thread | None = None
        self._begun = threading.Event()

    def get(self, key: LeaseKey) -> Lease:
        """The lease that applies now. Raises RegistryAwayError or RegistryRefusedError."""
        with self._lock:
            todo, lease = self._cache.look(key)
        if lease is None:
            if not self._begun.is_set():
                self._follow()
            return self._shared(key)
        if todo is Next.USE_AND_REFRESH:
            refresh = threading.Thread(target=self._refresh, args=(key,), name="byok-sdk-refresh", daemon=True)
            refresh.start()
        return lease

    def drop(self, org_id: str | None = None, provider: str | None = None) -> None:
        """Forget what is of an organization (None: of all) and provider (None: any)."""
        with self._lock:
            self._cache.drop(org_id, provider)

    def report(self, lease: Lease, outcome: Outcome, detail: str | None) -> bool:
        """Say how its key fared; False where the registry could not be told, which harms no call."""
        if lease.credential_id is None:
            return False
        try:
            return read_report(self._ask(report_call(lease, outcome, datetime.now(timezone.utc), detail)))
        except RegistryError as error:
            _log.warning("a report on a key was not taken: %s", error)
            return False

    def rejected(self, key: LeaseKey, credential_id: str, detail: str) -> None:
        """A provider does not take this key. Of many calls with it that fail, one reports it, and drops its lease."""
        with self._lock:
            lease = self._cache.look(key)[1]
            if lease is None or lease.credential_id != credential_id:
                return
            self._cache.drop(key.org_id, key.provider)
        self.report(lease, "rejected", detail)

    def close(self) -> None:
        """Stop following, and let go of the connections."""
        self._closed.set()
        if self._client is not None:
            self._client.close()

    @property
    def trouble(self) -> str | None:
        """Why changes are not heard of at once; None where they are."""
        return self._feed.trouble

    def _shared(self, key: LeaseKey) -> Lease:
        """Ask, or wait for who asks already: one answer, or one error, is everybody's."""
        for _ in range(_TRIES):
            with self._lock:
                asked = self._asked.get(key)
                if asked is None:
                    mine = self._asked[key] = Future[Lease]()
            if asked is None:
                return self._ask_for_all(key, mine)
            lease = asked.result()
            with self._lock:
                # What was dropped since is nobody's any more.
                if self._cache.look(key)[1] is lease:
                    return lease
        raise RegistryAwayError(_TOO_FAST)

    def _ask_for_all(self, key: LeaseKey, asked: Future[Lease]) -> Lease:
        try:
            lease = self._fetch(key)
        except BaseException as error:
            self._no_longer_asked(key)
            asked.set_exception(error if isinstance(error, Exception) else RegistryAwayError("it was interrupted"))
            raise
        self._no_longer_asked(key)
        asked.set_result(lease)
        return lease

    def _no_longer_asked(self, key: LeaseKey) -> None:
        with self._lock:
            self._asked.pop(key, None)

    def _fetch(self, key: LeaseKey) -> Lease:
        for _ in range(_TRIES):
            with self._lock:
                flight = self._cache.begin(key)
            if flight is not None and (lease := self._fly(flight)) is not None:
                return lease
        raise RegistryAwayError(_TOO_FAST)

    def _fly(self, flight: Flight) -> Lease | None:
        """Ask; None where something changed meanwhile."""
        try:
            lease = read_lease(flight.key, self._ask(lease_call(flight.key)))
        except RegistryAwayError:
            older = self._settle(lambda: self._cache.failed(flight))
            if older is None:
                raise
            return older
        except BaseException:
            self._settle(lambda: self._cache.refused(flight))
            raise
        return lease if self._settle(lambda: self._cache.landed(flight, lease)) else None

    def _settle(self, settle: Callable[[], T]) -> T:
        with self._lock:
            return settle()

    def _refresh(self, key: LeaseKey) -> None:
        try:
            self._shared(key)
        except ByokError as error:
            _log.warning("a lease was not renewed: %s", error)

    def _follow(self) -> None:
        """Begin to hear what changes, before the first lease; but without the registry's answer go on soon."""
        with self._lock:
            if self._following is None:
                self._following = threading.Thread(target=self._listen, name="byok-sdk-changes", daemon=True)
                self._following.start()
        self._begun.wait(_BEGIN_SECONDS)

    def _listen(self) -> None:
        while not self._closed.is_set():
            heard = self._hear()
            for each in heard.drop:
                self.drop(each.org_id, each.provider)
            self._begun.set()
            self._closed.wait(heard.pause)

    def _hear(self) -> Heard:
        try:
            return self._feed.hear(self._ask(self._feed.question()))
        except RegistryError as error:
            return self._feed.lost(str(error))
        except ClosedError:
            return Heard()
        except Exception as error:  # noqa: BLE001 - as the comment says
            # A thread that ended would leave leases alone with their time, and nobody would know.
            _log.exception("following changes goes on after an error")
            return self._feed.lost(type(error).__name__)

    def _ask(self, call: Call) -> Answer:
        if self._closed.is_set():
            raise ClosedError("the meter was closed")
        try:
            answer = self._connected().request(**call.request(self._settings), extensions={"trace": trace})
        except (httpx.HTTPError, RuntimeError) as error:
            raise RegistryAwayError(type(error).__name__) from None
        return Answer(answer.status_code, answer.content, answer.headers.get("Retry-After"))

    def _connected(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                with no_fork():
                    self._client = httpx.Client(follow_redirects=False)
            return self._client

    def forget_after_fork(self) -> None:
        """In a child: connections and thread are the parent's, and changes were not heard of since."""
        self._fresh_start()


def _in_child() -> None:
    for leases in list(_all):
        leases.forget_after_fork()


os.register_at_fork(after_in_child=_in_child)
