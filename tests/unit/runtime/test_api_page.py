"""``/docs``: every request that there is, where the OpenAPI document is, and no script from anywhere."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from services.runtime.request_bodies import BodyBounds
from services.runtime.settings import HttpSettings
from services.runtime.web import create_app


@pytest.fixture
def client() -> TestClient:
    app = create_app(
        title="Tea & cakes",
        description="Orders in, cakes out.",
        metrics=CollectorRegistry(),
        checks={},
        bodies=BodyBounds.of(HttpSettings(), 1_000),
    )

    @app.get("/v1/cakes", summary="Cakes <fresh>")
    def cakes() -> list[str]:
        return []

    return TestClient(app)


def test_it_lists_every_request_and_says_where_the_document_is(client: TestClient) -> None:
    page = client.get("/docs").text
    assert 'href="/openapi.json"' in page
    assert "<h1>Tea &amp; cakes</h1>" in page
    assert "Orders in, cakes out." in page
    listed = re.findall(r"<td><code>(\w+) (\S+)</code></td><td>([^<]+)</td>", page)
    assert ("GET", "/v1/cakes", "Cakes &lt;fresh&gt;") in listed
    paths = client.get("/openapi.json").json()["paths"]
    assert {(method, path) for method, path, _ in listed} == {
        (method.upper(), path) for path, operations in paths.items() for method in operations
    }


def test_nothing_on_it_runs_or_comes_from_elsewhere(client: TestClient) -> None:
    answer = client.get("/docs")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|https?://|src=", answer.text)
    assert client.get("/docs/oauth2-redirect").status_code == 404
    assert client.get("/redoc").status_code == 404
