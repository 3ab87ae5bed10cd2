"""What a command tells of a ledger that says no, or nothing."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from services.cli.service_api import ask_ledger
from services.runtime.command_failed import AWAY, CommandFailed


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """A ledger whose answer can be set; it remembers what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        answer = (200, b"{}")
        seen = []  # noqa: RUF012 - one for the one test

        def do_POST(self):
            self.seen.append(
                (self.path, self.headers["Authorization"], self.rfile.read(int(self.headers["Content-Length"])))
            )
            status, body = self.answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("BYOK_LEDGER_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    yield Handler
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_asked_and_answered(asked):
    asked.answer = (200, b'{"charged_mc": 12345678901234567890}')
    assert ask_ledger(None, "t", "POST", "/v1/quote", {"at": "now"}) == {"charged_mc": 12345678901234567890}
    assert asked.seen == [("/v1/quote", "Bearer t", b'{"at":"now"}')]


@pytest.mark.parametrize(
    ("status", "body", "said", "exit_status"),
    [
        (401, b'{"code": "invalid_token", "detail": "The token is not valid."}', "401 invalid_token: The token is", 1),
        (404, b"<html>", "404 Not Found", 1),
        (302, b"", "302 Found", 1),
        (503, b'{"code": "x", "detail": "y"}', "503 x: y", AWAY),
        (200, b"<html>", "does not answer", AWAY),
    ],
)
def test_a_refusal_is_told(asked, status, body, said, exit_status):
    asked.answer = (status, body)
    with pytest.raises(CommandFailed, match=said) as failed:
        ask_ledger(None, "t", "POST", "/v1/quote", {})
    assert failed.value.status == exit_status


@pytest.mark.parametrize("token", ["secret-of-mine\n", "secret-of-mine\u2026"])
def test_a_token_that_cannot_be_sent_is_not_repeated(asked, token):
    with pytest.raises(CommandFailed) as failed:
        ask_ledger(None, token, "POST", "/v1/quote", {})
    assert "secret" not in str(failed.value)
    assert asked.seen == []


def test_a_ledger_that_is_away_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("BYOK_LEDGER_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandFailed, match=r"http://127\.0\.0\.1:1 .*refused.*BYOK_LEDGER_URL") as failed:
        ask_ledger(None, "t", "GET", "/v1/entries/1/receipt")
    assert failed.value.status == AWAY
