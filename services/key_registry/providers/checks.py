"""Asks providers whether they take a key. Bounded in time, in size and in number; redirects are never followed."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from services.key_registry.providers.probes import PROBES, CheckReason, Probe, Verdict, unknown, verdict
from services.key_registry.settings import ProviderSettings
from services.runtime.http_client import client_options
from services.runtime.settings import SettingsError

ANSWER_BYTES_MAX = 1024 * 1024
CHECKS_AT_ONCE = 8
"""Each holds a thread of the service while it waits, and leases must not wait for those."""
FIRST_CHECK_SECONDS = 2.0
"""For how long at most whoever adds a key is kept waiting for its provider."""
_NOT_ASKED_AGAIN_SECONDS = 30.0
_NO_WAY_THERE = frozenset({CheckReason.UNREACHABLE, CheckReason.TIMED_OUT})
# Not compressed: a small answer could unpack to one that fills the memory.
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "byok-key-registry"}
# What httpx says, without a type of its own for it, where a connection was closed before it said anything.
_HUNG_UP = "Server disconnected without sending a response."


class ProviderChecks:
    """The providers that can be asked, and where. Threads share it."""

    def __init__(self, base_urls: Mapping[str, str], timeout_seconds: float) -> None:
        """``base_urls`` are those of providers that have a probe; ``timeout_seconds`` is for a whole question."""
        self._base_urls = dict(base_urls)
        self._timeout_seconds = timeout_seconds
        self._free = threading.BoundedSemaphore(CHECKS_AT_ONCE)
        self._out_of_reach: dict[str, float] = {}
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def verifiable(self) -> frozenset[str]:
        """The providers that can be asked."""
        return frozenset(self._base_urls)

    def check(self, provider: str, key: SecretStr) -> Verdict:
        """Ask the provider. Whatever goes wrong is told as ``unknown``; nobody learns the key from it."""
        return self._check(provider, key, self._timeout_seconds)

    def first_check(self, provider: str, key: SecretStr) -> Verdict:
        """Ask about a key that is being added: briefly, and not at all where there was no way to the provider lately.

        Whoever moves in with thousands of keys must not wait for each where nothing leads outside.
        """
        since = time.monotonic() - self._out_of_reach.get(provider, float("-inf"))
        if since < _NOT_ASKED_AGAIN_SECONDS:
            return unknown(CheckReason.UNREACHABLE)
        verdict_ = self._check(provider, key, min(FIRST_CHECK_SECONDS, self._timeout_seconds))
        if verdict_.reason in _NO_WAY_THERE:
            self._out_of_reach[provider] = time.monotonic()
        return verdict_

    def _check(self, provider: str, key: SecretStr, seconds: float) -> Verdict:
        if provider not in self._base_urls:
            return unknown(CheckReason.NOT_VERIFIABLE)
        if not self._free.acquire(blocking=False):
            return unknown(CheckReason.BUSY)
        try:
            return asyncio.run_coroutine_threadsafe(
                self._bounded(provider, key, seconds), self._running_loop()
            ).result()
        finally:
            self._free.release()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        # A loop of our own: only what runs on one can be stopped in the middle when its time is over.
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="provider-checks", daemon=True).start()
            return self._loop

    async def _bounded(self, provider: str, key: SecretStr, seconds: float) -> Verdict:
        # Of no exception more than its kind is told: those of the client hold the request, and with it the key.
        try:
            async with asyncio.timeout(seconds):
                return await _ask(provider, self._base_urls[provider], PROBES[provider], key)
        except TimeoutError:
            return unknown(CheckReason.TIMED_OUT)
        except (httpx.NetworkError, OSError):
            return unknown(CheckReason.UNREACHABLE)
        except httpx.RemoteProtocolError as error:
            hung_up = str(error) == _HUNG_UP
            return unknown(CheckReason.UNREACHABLE if hung_up else CheckReason.UNEXPECTED_ANSWER)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return unknown(CheckReason.UNEXPECTED_ANSWER)


async def _ask(provider: str, base_url: str, probe: Probe, key: SecretStr) -> Verdict:
    headers = {**_HEADERS, **probe.headers(key.get_secret_value())}
    # A proxy of the environment only for https, which it cannot look into.
    options = client_options(base_url, proxied=base_url.startswith("https:"))
    async with (
        httpx.AsyncClient(**options, timeout=None) as client,  # noqa: S113 - the whole question has a bound
        client.stream("GET", f"{base_url}{probe.path}", headers=headers) as answer,
    ):
        return verdict(provider, answer.status_code, await _body(answer))


async def _body(answer: httpx.Response) -> bytes:
    """The body, cut off where it is too long, so that it is no JSON and means nothing."""
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            break
    return bytes(body[:ANSWER_BYTES_MAX])


def provider_checks(settings: ProviderSettings) -> ProviderChecks:
    """The checks that the settings ask for. Raises SettingsError."""
    odd = sorted(settings.provider_urls.keys() - PROBES.keys())
    if odd:
        raise SettingsError(f"BYOK_PROVIDER_URLS: {', '.join(odd)}: only {', '.join(sorted(PROBES))} can be asked")
    urls = {name: probe.base_url for name, probe in PROBES.items()} | settings.provider_urls
    for name, url in urls.items():
        if url and not _is_safe(url):
            raise SettingsError(
                f"BYOK_PROVIDER_URLS: the URL of {name} must begin with https:// (http:// for this machine only),"
                " and hold no user, query or fragment; an empty one means that the provider is never asked"
            )
    return ProviderChecks({name: url.rstrip("/") for name, url in urls.items() if url}, settings.provider_check_seconds)


def _is_safe(text: str) -> bool:
    """Whether a key may be sent there: nobody between us and a loopback address reads along."""
    try:
        url = urlsplit(text)
        host = url.hostname or ""
        _ = url.port
    except ValueError:
        return False
    if not host or url.username is not None or url.query or url.fragment:
        return False
    return url.scheme == "https" or (url.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
