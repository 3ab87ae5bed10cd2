"""Whatever is sent to the HTTP APIs is answered, and never with a 5xx; hostile requests by hand and by machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.running import Stack, environment
from tests.patience import PATIENCE_SECONDS

JSON = {"Content-Type": "application/json"}
SERVICES = ("registry", "ledger")
BODIES = {
    "nothing": b"",
    "a NUL": b"\x00",
    "null": b"null",
    "a list": b"[]",
    "text": b'"x"',
    "a lone surrogate as a name": b'{"\\ud800": 1}',
    "a lone surrogate as a value": b'{"org_id": "\\ud800"}',
    "nested without end": b"[" * 60_000,
    "objects without end": b'{"a":' * 10_000,
    "not a number": b'{"org_id": NaN}',
    "infinity": b'{"calls": 1e999, "user_id": 1e999}',
    "5,000 digits": b'{"calls": ' + b"9" * 5_000 + b"}",
    "no UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a name twice": b'{"org_id": "a", "org_id": "b"}',
}
WITH_BODY = [
    ("registry", "POST", "/v1/credentials"),
    ("registry", "PATCH", "/v1/credentials/x"),
    ("registry", "POST", "/v1/credentials/x/rotate"),
    ("registry", "POST", "/v1/credentials/x/reports"),
    ("registry", "POST", "/v1/resolve"),
    ("registry", "POST", "/v1/lease"),
    ("registry", "PUT", "/v1/organizations/x/plan"),
    ("ledger", "POST", "/v1/quote"),
    ("ledger", "POST", "/v1/usage-events"),
]
REFUSALS = """
[checks.negative_data_rejection]
expected-statuses = ["207", "400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"]
"""
NO_JSON = ("malformed_json", 400)


def service(stack: Stack, name: str) -> httpx.Client:
    client: httpx.Client = getattr(stack, name)
    return client


def problem(answer: httpx.Response) -> tuple[str, int]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert answer.json()["status"] == answer.status_code
    return answer.json()["code"], answer.status_code


@pytest.mark.parametrize(("name", "method", "path"), WITH_BODY)
def test_hostile_bodies(stack: Stack, name: str, method: str, path: str) -> None:
    for what, body in BODIES.items():
        answer = service(stack, name).request(method, path, content=body, headers=JSON)
        code, status = problem(answer)
        assert 400 <= status < 500, what
        if what in ("a NUL", "nested without end", "objects without end", "5,000 digits", "no UTF-8"):
            assert (code, status) in (NO_JSON, ("invalid_event", 422)), what


@pytest.mark.parametrize(("name", "method", "path"), WITH_BODY)
@pytest.mark.parametrize("media_type", ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded", None])
def test_a_body_of_another_type(stack: Stack, name: str, method: str, path: str, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = service(stack, name).request(method, path, content=b'{"plan": "pro"}', headers=headers)
    assert problem(answer) == ("unsupported_media_type", 415)


@pytest.mark.parametrize(
    ("name", "path", "allowed"),
    [
        ("registry", "/v1/credentials", {"GET", "POST"}),
        ("registry", "/v1/credentials/x", {"GET", "PATCH", "DELETE"}),
        ("registry", "/v1/organizations/x/plan", {"GET", "PUT"}),
        ("ledger", "/v1/usage-events", {"POST"}),
        ("ledger", "/v1/organizations/x/entries", {"GET"}),
        ("ledger", "/healthz", {"GET", "HEAD"}),
    ],
)
def test_another_method_is_told_which_there_are(stack: Stack, name: str, path: str, allowed: set[str]) -> None:
    for method in {"OPTIONS", "TRACE", "BREW", "PUT", "DELETE"} - allowed:
        answer = service(stack, name).request(method, path)
        assert problem(answer) == ("method_not_allowed", 405)
        assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("name", [*SERVICES, "console"])
def test_health_answers_without_a_body(stack: Stack, name: str) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        head, whole = (service(stack, name).request(method, path) for method in ("HEAD", "GET"))
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize("text", ["%00", "%ED%A0%80", "%FF", "%0A", "..%2F..", "%25", "x" * 2_000, "%F0%9F%94%91"])
def test_odd_text_in_paths_and_queries(stack: Stack, text: str) -> None:
    requests = [
        ("registry", f"/v1/credentials/{text}"),
        ("registry", f"/v1/organizations/{text}/plan"),
        *[
            ("registry", f"/v1/credentials?org_id=x&{name}={text}")
            for name in ("cursor", "scope_id", "limit", "status")
        ],
        ("registry", f"/v1/audit?actor={text}"),
        *[("registry", f"/v1/changes?{name}={text}") for name in ("after", "wait", "limit")],
        ("ledger", f"/v1/organizations/{text}/entries"),
        *[("ledger", f"/v1/organizations/x/entries?{name}={text}") for name in ("cursor", "from", "model", "flag")],
        ("ledger", f"/v1/organizations/x/summary?group_by={text}"),
        ("ledger", f"/v1/entries/{text}/receipt"),
        ("console", f"/{text}"),
        ("console", f"/sign-in?next={text}"),
        *[("console", f"/savings?org_id=x&{name}={text}") for name in ("org_id", "from", "provider")],
    ]
    stack.console.post("/sign-in/token", data={"token": stack.told["tokens"]["platform"]})
    for name, path in requests:
        answer = service(stack, name).get(path)
        assert answer.status_code < 500, path


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVICES)
def test_generated_requests_by_the_api_s_own_description(stack: Stack, name: str, tmp_path: Path) -> None:
    """Schemathesis: requests that fit the OpenAPI document, that just do not, and sequences of them."""
    client = service(stack, name)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{client.base_url}/openapi.json"),
        *("--header", f"Authorization: {client.headers['Authorization']}"),
        # Left out: that a wrong token is refused (the header above is always sent), that there is data behind an
        # invented id, that all is accepted that fits: a cursor or a group has rules that no schema says; and that what
        # was deleted is gone: a revoked credential is shown for ever, with its history.
        *("--checks", "all"),
        *("--exclude-checks", "ignored_auth,positive_data_acceptance,ensure_resource_availability,use_after_free"),
        *("--generation-deterministic", "--max-examples", "20"),
        *("--no-shrink", "--continue-on-failure", "--suppress-health-check", "all", "--no-color"),
        # The feed is waited for, for 30 s at most, where nothing is booked.
        *("--request-timeout", "40", "--max-response-time", "35", "--warnings", "off"),
    ]
    # Of a batch, what is good is taken, and 207 names the rest.
    (tmp_path / "schemathesis.toml").write_text(REFUSALS)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_SECONDS,
        cwd=tmp_path,
        env=environment(),
        check=False,
    )
    summary = done.stdout.partition("= SUMMARY =")[2] or done.stdout
    print(name, summary)  # noqa: T201 (pytest -rP)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
    generated = re.search(r"(\d+) generated", summary)
    assert generated is not None
    assert int(generated[1]) > 300
