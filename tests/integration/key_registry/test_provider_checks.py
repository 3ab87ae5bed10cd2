"""Asking the six providers about a key, over real HTTP, with all that they and the network may answer."""

from __future__ import annotations

import gzip
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from pydantic import SecretStr

from services.key_registry.providers.checks import ANSWER_BYTES_MAX, CHECKS_AT_ONCE, ProviderChecks, provider_checks
from services.key_registry.providers.probes import PROBES
from services.key_registry.settings import ProviderSettings
from services.runtime.settings import SettingsError
from tests.integration.key_registry.provider_server import BAD, DOCUMENTED, GOOD, ProviderServer, provider_server, reply
from tests.integration.key_registry.proxied_broker import free_port
from tests.patience import PATIENCE_SECONDS


@pytest.fixture
def providers() -> Iterator[ProviderServer]:
    with provider_server() as server:
        yield server


def ask(providers: ProviderServer, provider: str = "openai", key: str = GOOD, seconds: float = 10) -> tuple[str, str]:
    found = ProviderChecks(providers.base_urls, seconds).check(provider, SecretStr(key))
    return found.result.value, found.reason.value


@pytest.mark.parametrize("provider", DOCUMENTED)
def test_a_key_that_is_taken_and_one_that_is_not(providers: ProviderServer, provider: str) -> None:
    assert ask(providers, provider) == ("valid", "accepted")
    assert ask(providers, provider, BAD) == ("invalid", "rejected")
    good, bad = providers.seen
    expected = DOCUMENTED[provider]
    for seen, key in ((good, GOOD), (bad, BAD)):
        assert seen.path == f"/{provider}{expected.path}"
        assert seen.headers[expected.header] == expected.prefix + key
        assert [name for name, value in seen.headers.items() if key in value] == [expected.header]
        assert "cookie" not in seen.headers
    if provider == "anthropic":
        assert good.headers["anthropic-version"] == "2023-06-01"


def test_every_provider_that_takes_own_keys_can_be_asked() -> None:
    assert provider_checks(ProviderSettings()).verifiable == PROBES.keys() == DOCUMENTED.keys()


@pytest.mark.parametrize("provider", DOCUMENTED)
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (301, "redirected"),
        (307, "redirected"),
        (402, "unexpected_answer"),
        (403, "forbidden"),
        (404, "unexpected_answer"),
        (429, "rate_limited"),
        (500, "provider_error"),
        (503, "provider_error"),
        (529, "provider_error"),
    ],
)
def test_what_says_nothing_of_the_key(providers: ProviderServer, provider: str, status: int, reason: str) -> None:
    providers.answer = reply(status, {"error": {"message": "no"}}, Location=f"{providers.url}/elsewhere")
    assert ask(providers, provider) == ("unknown", reason)
    # The key was sent once, and followed no redirect.
    assert [seen.path for seen in providers.seen] == [f"/{provider}{DOCUMENTED[provider].path}"]


@pytest.mark.parametrize(
    ("provider", "status", "body", "expected"),
    [
        # A restricted key may do its work without being allowed to list models.
        (
            "openai",
            401,
            {"error": {"message": "You have insufficient permissions. Missing scopes: api.model.read"}},
            None,
        ),
        ("openai", 401, {"error": {"message": "Incorrect API key provided"}}, "rejected"),
        ("openai", 401, {"error": "odd"}, "rejected"),
        ("openai", 401, b"<html>", "rejected"),
        ("openai", 400, {"error": {}}, "unexpected_answer"),
        (
            "google",
            400,
            {"error": {"status": "INVALID_ARGUMENT", "details": [{"reason": "OTHER"}]}},
            "unexpected_answer",
        ),
        ("google", 400, {"error": {"details": "API_KEY_INVALID"}}, "unexpected_answer"),
        ("google", 401, {"error": {"status": "UNAUTHENTICATED"}}, "rejected"),
        ("xai", 401, {}, "rejected"),
        ("xai", 200, {"api_key_disabled": True}, "rejected"),
        ("xai", 200, {"api_key_blocked": True}, "rejected"),
        ("xai", 200, {"team_blocked": True}, "accepted"),
        ("anthropic", 400, {"error": {"type": "invalid_request_error"}}, "unexpected_answer"),
        ("deepseek", 200, {"is_available": False, "balance_infos": []}, "accepted"),
    ],
)
def test_peculiar_answers(
    providers: ProviderServer, provider: str, status: int, body: object, expected: str | None
) -> None:
    providers.answer = reply(status, body)
    result = {"rejected": "invalid", "accepted": "valid"}.get(expected or "", "unknown")
    assert ask(providers, provider) == (result, expected or "forbidden")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>sign in</html>",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": "' + b"x" * ANSWER_BYTES_MAX,
    ],
    ids=range(8),
)
def test_an_answer_that_is_not_the_providers_says_nothing(providers: ProviderServer, body: bytes) -> None:
    providers.answer = reply(200, body)
    assert ask(providers) == ("unknown", "unexpected_answer")


def test_a_small_answer_that_unpacks_to_a_large_one(providers: ProviderServer) -> None:
    bomb = gzip.compress(b" " * (50 * ANSWER_BYTES_MAX) + b"{}")
    providers.answer = reply(200, bomb, **{"Content-Encoding": "gzip"})
    assert ask(providers) == ("unknown", "unexpected_answer")


def no_http(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


def hang_up(request: BaseHTTPRequestHandler) -> None:
    request.connection.close()


def stop_halfway(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b'{"data": [')


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        (no_http, {"unexpected_answer"}),
        (hang_up, {"unreachable"}),
        (stop_halfway, {"unexpected_answer"}),
    ],
)
def test_a_connection_that_goes_wrong(providers: ProviderServer, answer: Any, reasons: set[str]) -> None:
    providers.answer = answer
    result, reason = ask(providers)
    assert result == "unknown"
    assert reason in reasons


DRIPPING_SECONDS = 30


def drip(request: BaseHTTPRequestHandler) -> None:
    """A header line now and then: each read succeeds, and the answer never comes."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(DRIPPING_SECONDS * 20):
        request.wfile.write(f"X-Wait-{number}: 1\r\n".encode())
        request.wfile.flush()
        time.sleep(0.05)


def test_a_provider_that_takes_too_long(providers: ProviderServer) -> None:
    over = threading.Event()
    answers: tuple[Any, ...] = (drip, lambda _: over.wait(DRIPPING_SECONDS))
    for slow in answers:
        providers.answer = slow
        began = time.monotonic()
        assert ask(providers, seconds=0.5) == ("unknown", "timed_out")
        assert time.monotonic() - began < DRIPPING_SECONDS / 2
    over.set()


def test_a_provider_that_is_not_there() -> None:
    checks = ProviderChecks({"openai": f"http://127.0.0.1:{free_port()}"}, 5)
    assert checks.check("openai", SecretStr(GOOD)) == ("unknown", "unreachable")
    assert checks.check("google", SecretStr(GOOD)) == ("unknown", "not_verifiable")
    assert checks.check("mistral", SecretStr(GOOD)) == ("unknown", "not_verifiable")


def test_whoever_adds_keys_does_not_wait_for_each_where_there_is_no_way_to_the_provider(
    providers: ProviderServer,
) -> None:
    checks = ProviderChecks(providers.base_urls, 0.5)
    over = threading.Event()

    def hang(_: BaseHTTPRequestHandler) -> None:
        over.wait(PATIENCE_SECONDS)

    providers.answer = hang
    assert checks.first_check("openai", SecretStr(GOOD)) == ("unknown", "timed_out")
    over.set()
    providers.answer = reply(200)
    assert checks.first_check("openai", SecretStr(GOOD)) == ("unknown", "unreachable")
    assert len(providers.seen) == 1
    # Of another provider that says nothing, and whoever asks on purpose is answered.
    assert checks.first_check("google", SecretStr(GOOD)) == ("valid", "accepted")
    assert checks.check("openai", SecretStr(GOOD)) == ("valid", "accepted")


def test_a_server_with_a_certificate_of_nobody_gets_no_key(providers: ProviderServer) -> None:
    checks = ProviderChecks({"openai": providers.url.replace("http", "https")}, 5)
    assert checks.check("openai", SecretStr(GOOD)) == ("unknown", "unreachable")
    assert providers.seen == []


def test_a_proxy_of_the_environment_sees_no_key(providers: ProviderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy, ThreadPoolExecutor(1) as pool:
        for name in ("NO_PROXY", "no_proxy", "http_proxy", "https_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        # It could look into what is not encrypted, so that goes there itself.
        assert ask(providers) == ("valid", "accepted")

        def refuse() -> bytes:
            connection, _ = proxy.accept()
            with connection:
                asked = connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return asked

        asked = pool.submit(refuse)
        checks = ProviderChecks({"openai": "https://provider.invalid"}, 10)
        assert checks.check("openai", SecretStr(GOOD)) == ("unknown", "unexpected_answer")
        assert asked.result(PATIENCE_SECONDS).startswith(b"CONNECT provider.invalid:443 ")
        assert GOOD.encode() not in asked.result()


def test_a_provider_that_hangs_does_not_take_all_threads(providers: ProviderServer) -> None:
    asked, go_on = threading.Semaphore(0), threading.Event()

    def hang(request: BaseHTTPRequestHandler) -> None:
        asked.release()
        assert go_on.wait(PATIENCE_SECONDS)
        reply(200)(request)

    providers.answer = hang
    checks = ProviderChecks(providers.base_urls, PATIENCE_SECONDS)
    with ThreadPoolExecutor(CHECKS_AT_ONCE) as pool:
        waiting = [pool.submit(checks.check, "openai", SecretStr(GOOD)) for _ in range(CHECKS_AT_ONCE)]
        for _ in waiting:
            assert asked.acquire(timeout=PATIENCE_SECONDS)
        assert checks.check("openai", SecretStr(GOOD)) == ("unknown", "busy")
        go_on.set()
        assert {answer.result() for answer in waiting} == {("valid", "accepted")}
    assert checks.check("openai", SecretStr(GOOD)) == ("valid", "accepted")


def test_no_log_line_and_no_repr_holds_the_key(providers: ProviderServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for answer in (reply(200), reply(401), reply(500), no_http, hang_up, stop_halfway):
        providers.answer = answer
        ask(providers)
    assert GOOD not in caplog.text


# Settings


def test_where_to_ask_is_a_setting(monkeypatch: pytest.MonkeyPatch, providers: ProviderServer) -> None:
    monkeypatch.setenv("BYOK_PROVIDER_URLS", f'{{"openai": "{providers.url}/openai/", "xai": ""}}')
    checks = provider_checks(ProviderSettings.load())
    assert checks.verifiable == PROBES.keys() - {"xai"}
    assert checks.check("openai", SecretStr(GOOD)) == ("valid", "accepted")


@pytest.mark.parametrize(
    "value",
    [
        '{"openai": "http://api.example"}',
        '{"openai": "http://127.0.0.1.example"}',
        '{"openai": "ftp://127.0.0.1"}',
        '{"openai": "https://"}',
        '{"openai": "https://user:secret@api.example"}',
        '{"openai": "https://api.example/?key=1"}',
        '{"openai": "https://api.example:port"}',
        '{"mistral": "https://api.example"}',
        '{"openai": 1}',
        "https://api.example",
        "[]",
    ],
)
def test_a_url_that_would_give_the_key_away_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BYOK_PROVIDER_URLS", value)
    with pytest.raises(SettingsError, match="BYOK_PROVIDER_URLS"):
        provider_checks(ProviderSettings.load())
