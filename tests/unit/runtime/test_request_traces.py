"""Every request belongs to a trace: on each line that is logged for it, in the answer, and in problems."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from services.runtime.logs import configure_logs, logger
from services.runtime.problems import Problem
from services.runtime.request_bodies import BodyBounds
from services.runtime.settings import HttpSettings
from services.runtime.trace_context import TraceContext, read_traceparent
from services.runtime.web import create_app

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SENT = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
KEY = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz012345"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is logged, as a service logs it; afterwards all is as it was."""
    root = logging.getLogger()
    handlers, level, before = root.handlers, root.level, structlog.get_config()
    configure_logs("INFO", "tested")
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    lines = io.StringIO()
    handler.setStream(lines)
    yield lines
    logging.captureWarnings(capture=False)
    structlog.configure(**before)
    root.handlers = handlers
    root.setLevel(level)


@pytest.fixture
def client(written: io.StringIO) -> TestClient:
    bodies = BodyBounds.of(HttpSettings(), 1_000)
    app: FastAPI = create_app(title="t", description="t", metrics=CollectorRegistry(), checks={}, bodies=bodies)

    @app.get("/in-a-thread")
    def in_a_thread() -> None:
        logger("here").info("in a thread")

    @app.get("/on-the-loop")
    async def on_the_loop() -> None:
        logger("here").info("on the loop")

    @app.get("/refused")
    def refused() -> None:
        raise Problem(404, "not_found", "None.")

    @app.get("/bug")
    def bug() -> None:
        raise ValueError("a bug")

    return TestClient(app, raise_server_exceptions=False)


def told(answer: httpx.Response) -> TraceContext:
    found = read_traceparent(answer.headers["traceparent"])
    assert found is not None
    return found


def logged(written: io.StringIO) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in written.getvalue().splitlines()]
    written.seek(0)
    written.truncate()
    return found


@pytest.mark.parametrize("path", ["/in-a-thread", "/on-the-loop", "/bug"])
def test_a_trace_that_came_is_gone_on_with_in_logs_and_in_the_answer(
    client: TestClient, written: io.StringIO, path: str
) -> None:
    trace = told(client.get(path, headers=SENT | {"X-Request-ID": "r-17"}))
    assert (trace.trace_id, trace.sampled) == (TRACE, True)
    assert trace.span_id not in SENT["traceparent"]
    (line,) = logged(written)
    assert (line["trace_id"], line["span_id"], line["request_id"]) == (TRACE, trace.span_id, "r-17")


@pytest.mark.parametrize("came", [{}, {"traceparent": "nonsense"}, {"traceparent": KEY}])
def test_where_none_came_one_is_begun_for_each_request(
    client: TestClient, written: io.StringIO, came: dict[str, str]
) -> None:
    first, second = (told(client.get("/in-a-thread", headers=came)) for _ in range(2))
    assert first.trace_id != second.trace_id
    lines = logged(written)
    assert [line["trace_id"] for line in lines] == [first.trace_id, second.trace_id]
    assert KEY not in json.dumps(lines)
    assert "request_id" not in lines[0]


@pytest.mark.parametrize(("path", "named"), [("/refused", None), ("/nowhere", None), ("/bug", TRACE)])
def test_a_problem_of_ours_names_the_trace(client: TestClient, path: str, named: str | None) -> None:
    answer = client.get(path, headers=SENT)
    assert answer.json().get("trace_id") == named
    assert told(answer).trace_id == TRACE


def test_a_request_id_with_a_key_in_it_is_masked_and_one_that_is_no_text_left_out(
    client: TestClient, written: io.StringIO
) -> None:
    client.get("/in-a-thread", headers={"X-Request-ID": KEY})
    client.get("/in-a-thread", headers={"X-Request-ID": "x" * 129})
    first, second = logged(written)
    assert first["request_id"] == "[masked key]"
    assert "request_id" not in second


def test_nothing_of_a_request_is_left_on_lines_of_none(client: TestClient, written: io.StringIO) -> None:
    client.get("/on-the-loop", headers=SENT)
    logged(written)
    logger("here").info("of no request")
    assert "trace_id" not in logged(written)[0]
