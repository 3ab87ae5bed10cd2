"""A straight route answers whatever comes as the framework would: what is asked, and why it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, get_args

import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from services.domain.permissions import Caller
from services.key_registry.api.callers import CallLimits, Lessee
from services.key_registry.api.requests import ResolveRequest
from services.key_registry.api.straight_route import StraightRoute
from services.runtime.problems import install_problem_handlers
from services.runtime.rate_limit import RateLimit

OFTEN = RateLimit(1e9, 10**9)
JSON = "application/json"
USE = {"org_id": "org", "user_id": "uma", "team_id": None, "provider": "openai"}


async def told(request: Request, who: Lessee, body: ResolveRequest) -> Response:
    origin = who.origin._asdict()
    return JSONResponse({"id": who.id, "from": origin, "body": body.model_dump(mode="json"), "to": request.url.path})


def caller(name: str) -> Caller:
    return Caller(name, "*", None, {}, frozenset())


def client_of(
    route_class: type[APIRoute], overrides: Mapping[Callable[..., Any], Callable[..., Any]] = {}
) -> TestClient:
    app, router = FastAPI(), APIRouter(route_class=route_class)
    router.post("/told")(told)
    app.include_router(router)
    app.state.limits = CallLimits(OFTEN, OFTEN)
    app.dependency_overrides |= overrides
    install_problem_handlers(app)

    async def from_runner(scope: Scope, receive: Receive, send: Send) -> None:
        # As the middleware that reads bodies notes it.
        if scope["type"] == "http":
            scope.setdefault("state", {})["caller"] = caller("runner")
        await app(scope, receive, send)

    return TestClient(from_runner, raise_server_exceptions=False)


STRAIGHT, BY_FRAMEWORK = client_of(StraightRoute), client_of(APIRoute)

_ids = st.sampled_from(["org", "", "ü" * 64, "ü" * 65, "a" * 129, "a\n", "\ud800", "*", None, 7, True, ["org"]])
_times = st.sampled_from(["2026-04-27T09:30:00Z", "2026-04-27T09:30:00", "1999-12-31T23:59:59Z", "now", 1, None])
_fields = {"org_id": _ids, "user_id": _ids, "team_id": _ids, "provider": _ids, "at": _times, "sk-pasted": _ids}
_bodies = st.one_of(
    st.fixed_dictionaries({}, optional=_fields).map(lambda said: json.dumps(USE | said).encode()),
    st.fixed_dictionaries({}, optional=_fields).map(lambda said: json.dumps(said).encode()),
    st.sampled_from(["utf-16", "utf-8-sig", "latin-1"]).map(lambda name: json.dumps(USE).encode(name)),
    st.sampled_from([b"", b"null", b"[]", b'"org"', b"{", b"\xff", b"NaN", b"[" * 100_000, b"9" * 5_000]),
    st.binary(max_size=8),
)
_types = st.sampled_from([JSON, f"{JSON}; charset=utf-8", "Application/JSON ;", "application/x+json", "text/json", ""])
_headers = st.one_of(st.none(), st.text(st.characters(codec="latin-1"), max_size=3), st.sampled_from("a" * 127 + "é"))
_lengths = st.sampled_from([1, 127, 128, 129, 200, 201])
_said = st.one_of(_headers, _lengths.map("a".__mul__))


@settings(max_examples=300, deadline=None)
@given(body=_bodies, content_type=st.one_of(st.none(), _types), request_id=_said, reason=_said)
@example(body=json.dumps(USE).encode(), content_type=JSON, request_id=None, reason=None)
@example(body=json.dumps(USE).encode(), content_type=JSON, request_id="a" * 129, reason=None)
@example(body=b'{"user_id": "a", "user_id": "b", "provider": "openai"}', content_type=JSON, request_id="1", reason="é")
def test_both_ways_answer_alike(
    body: bytes, content_type: str | None, request_id: str | None, reason: str | None
) -> None:
    said = {"Content-Type": content_type, "X-Request-ID": request_id, "X-Reason": reason}
    headers = {name: value.encode("latin-1") for name, value in said.items() if value is not None}
    straight, by_framework = (
        client.post("/told", content=body, headers=headers) for client in (STRAIGHT, BY_FRAMEWORK)
    )
    assert (straight.status_code, straight.content, straight.headers) == (
        by_framework.status_code,
        by_framework.content,
        by_framework.headers,
    )


@pytest.mark.parametrize(("route_class", "who"), [(StraightRoute, "runner"), (APIRoute, "framework")])
def test_what_is_as_it_should_be_goes_straight(route_class: type[APIRoute], who: str) -> None:
    # What stands in for a dependency is heeded by the framework alone.
    overrides = {get_args(Lessee)[1].dependency: lambda: caller("framework")}
    assert client_of(route_class, overrides).post("/told", json=USE).json()["id"] == who
