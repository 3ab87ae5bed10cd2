"""The other services' HTTP APIs, asked with the token of whoever is signed in: all that the console knows comes so."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from services.runtime.http_client import client_options
from services.runtime.logs import logger
from services.runtime.trace_context import TRACEPARENT, current_trace

_log = logger(__name__)

Json = dict[str, Any]
"""An answer, as docs/contract.md, section 8, has it."""

Query = Mapping[str, str | int | Sequence[str]]

_SECONDS = httpx.Timeout(20, connect=3, pool=5)
_CONNECTIONS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4)
_ANSWER_BYTES_MAX = 16 * 1024 * 1024
_JSON = {"Content-Type": "application/json"}
AWAY = "service_away"
"""The code of an ApiError where a service gave no answer that could be used."""


class Tagged(NamedTuple):
    """Something as it is now, and the tag of this state: given back with a change, it is made to this state alone."""

    body: Json
    tag: str


class ApiError(Exception):
    """A service refused, or did not answer; nothing that was sent is part of it."""

    def __init__(
        self,
        service: str,
        status: int,
        code: str,
        detail: str,
        *,
        errors: tuple[Mapping[str, Any], ...] = (),
        retry_seconds: int | None = None,
    ) -> None:
        """``code`` and ``detail`` are those of the problem; ``errors`` name the fields at fault, if any."""
        super().__init__(f"{service}: {status} {code}: {detail}")
        self.service = service
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_seconds = retry_seconds

    @property
    def field(self) -> str | None:
        """The field at fault; None where it is not one alone."""
        return str(self.errors[0].get("field")) if len(self.errors) == 1 else None

    @property
    def is_away(self) -> bool:
        """Whether the service is away, or too busy, so that trying again later helps."""
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


class Service:
    """One service, for all who are signed in; ``name`` is what people are told."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        # Ours stand in our own network; no proxy is between.
        self._client = httpx.AsyncClient(
            base_url=url, timeout=_SECONDS, limits=_CONNECTIONS, **client_options(url, proxied=False)
        )

    def as_(self, token: str) -> Api:
        """Its API for whoever has the token."""
        return Api(self.name, self._client, token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()


class Api:
    """One service as one person may use it. Every call raises ApiError.

    A path is given in parts, each of which is quoted, and is below /v1: ``get("organizations", org_id, "summary")``.
    """

    def __init__(self, name: str, client: httpx.AsyncClient, token: str) -> None:
        self._name = name
        self._client = client
        self._token = token

    async def get(self, *path: str, query: Query | None = None) -> Json:
        """What is there."""
        return await self._ask("GET", path, query, None)

    async def get_tagged(self, *path: str) -> Tagged:
        """What is there, of which others might make something else before it is changed here."""
        async with self._sent("GET", path, None, None) as response:
            return Tagged(self._json(await _whole(response)), response.headers.get("ETag", "*"))

    async def post(
        self,
        *path: str,
        body: Json,
        query: Query | None = None,
        seen: str | None = None,
        once: str | None = None,
    ) -> Json:
        """Have something done: to the state ``seen`` alone, where one is given; under one ``once`` a single time."""
        return await self._ask("POST", path, query, body, _told({"If-Match": seen, "Idempotency-Key": once}))

    async def put(self, *path: str, body: Json) -> Json:
        """Set something."""
        return await self._ask("PUT", path, None, body)

    async def patch(self, *path: str, body: Json, seen: str | None = None) -> Json:
        """Change a part of something, which is as ``seen``."""
        return await self._ask("PATCH", path, None, body, _told({"If-Match": seen}))

    async def delete(self, *path: str, seen: str | None = None) -> None:
        """End something, which is as ``seen``."""
        await self._ask("DELETE", path, None, None, _told({"If-Match": seen}))

    @asynccontextmanager
    async def download(self, *path: str, query: Query | None = None) -> AsyncIterator[httpx.Response]:
        """An answer that is read piece by piece, such as an export; raises ApiError before the first piece."""
        async with self._sent("GET", path, query, None) as response:
            yield response

    async def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        query: Query | None,
        body: Json | None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        async with self._sent(method, path, query, body, headers) as response:
            return self._json(await _whole(response))

    def _json(self, text: bytes) -> Json:
        try:
            answer: Json = json.loads(text) if text else {}
        except ValueError:
            raise self._away("an answer that is no JSON") from None
        return answer

    @asynccontextmanager
    async def _sent(
        self,
        method: str,
        path: tuple[str, ...],
        query: Query | None,
        body: Json | None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        url = "/".join(("/v1", *(quote(part, safe="") for part in path)))
        try:
            async with self._client.stream(
                method,
                url,
                params=dict(query or {}),
                content=_content(body),
                headers=self._headers() | ({} if body is None else _JSON) | dict(headers or {}),
            ) as response:
                if not response.is_success:
                    raise self._refused(response, await _whole(response))
                yield response
        except (httpx.HTTPError, _TooLongError) as error:
            raise self._away(type(error).__name__) from error

    def _headers(self) -> dict[str, str]:
        trace = current_trace.get()
        traced = {} if trace is None else {TRACEPARENT: str(trace.child())}
        return {"Authorization": f"Bearer {self._token}", **traced}

    def _away(self, why: str) -> ApiError:
        _log.warning("a service cannot be used", service=self._name, error=why)
        return ApiError(self._name, HTTPStatus.SERVICE_UNAVAILABLE, AWAY, f"The {self._name} does not answer.")

    def _refused(self, response: httpx.Response, text: bytes) -> ApiError:
        try:
            problem = json.loads(text)
            errors = tuple(each for each in problem.get("errors", ()) if isinstance(each, dict))
            code, detail = str(problem["code"]), str(problem["detail"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return self._away(f"status {response.status_code} without a problem")
        retry = response.headers.get("Retry-After", "")
        return ApiError(
            self._name,
            response.status_code,
            code,
            detail,
            errors=errors,
            retry_seconds=int(retry) if retry.isascii() and retry.isdigit() else None,
        )


def _told(headers: Mapping[str, str | None]) -> dict[str, str]:
    # They come back from forms, where they can be made to hold what no header may.
    return {name: quote(value, safe='"*/') for name, value in headers.items() if value}


def _content(body: Json | None) -> bytes | None:
    """A body as it is sent: the one place where a key leaves its mask."""
    return None if body is None else json.dumps(body, default=SecretStr.get_secret_value).encode()


class _TooLongError(Exception):
    """An answer is longer than any that is asked for."""


async def _whole(response: httpx.Response) -> bytes:
    pieces, size = [], 0
    async for piece in response.aiter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > _ANSWER_BYTES_MAX:
            raise _TooLongError
    return b"".join(pieces)
