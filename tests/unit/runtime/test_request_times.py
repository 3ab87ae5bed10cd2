"""Requests are timed by method, template of the route and class of status, and nothing that was sent is a label."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from services.runtime.problems import Problem
from services.runtime.request_bodies import BodyBounds
from services.runtime.settings import HttpSettings
from services.runtime.web import create_app

SENT = "sk-pasted-by-mistake"


@pytest.fixture
def metrics() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def client(metrics: CollectorRegistry) -> TestClient:
    bodies = BodyBounds.of(HttpSettings(), 1_000)
    app: FastAPI = create_app(title="t", description="t", metrics=metrics, checks={}, bodies=bodies)

    @app.get("/things/{thing:path}/parts")
    def parts(thing: str) -> str:
        if thing == "none":
            raise Problem(404, "not_found", "None.")
        if thing == "bug":
            raise ValueError
        return thing

    app.mount("/pages", Starlette(routes=[Route("/of/{whom}", lambda _request: PlainTextResponse("x"))]))
    return TestClient(app, raise_server_exceptions=False)


def timed(metrics: CollectorRegistry) -> dict[tuple[str, str, str], float]:
    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.name == "byok_http_request_seconds_count"
    }


@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", f"/things/{SENT}/more/parts", ("GET", "/things/{thing:path}/parts", "2xx")),
        ("GET", "/things/none/parts", ("GET", "/things/{thing:path}/parts", "4xx")),
        ("GET", "/things/bug/parts", ("GET", "/things/{thing:path}/parts", "5xx")),
        ("POST", "/things/some/parts", ("POST", "/things/{thing:path}/parts", "4xx")),
        ("HEAD", "/healthz", ("HEAD", "/healthz", "2xx")),
        ("GET", f"/pages/of/{SENT}", ("GET", "/pages/of/{whom}", "2xx")),
        ("GET", f"/pages/{SENT}", ("GET", "/pages", "4xx")),
        ("GET", f"/{SENT}", ("GET", "other", "4xx")),
        ("BREW", f"/{SENT}", ("other", "other", "4xx")),
    ],
)
def test_a_request_is_timed_once_under_what_the_application_declares(
    client: TestClient, metrics: CollectorRegistry, method: str, path: str, labels: tuple[str, str, str]
) -> None:
    client.request(method, path)
    assert timed(metrics) == {labels: 1}
