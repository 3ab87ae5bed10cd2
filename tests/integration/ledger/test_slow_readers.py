"""Clients that take an export slowly, or go away in the midst of it, keep nobody else from theirs."""

from __future__ import annotations

import json
import socket
import struct
import time
from pathlib import Path

import pytest

from tests.integration.ledger.ledger_process import book_many, running
from tests.patience import PATIENCE_SECONDS, wait_for

# Of the states in /proc/net/tcp those in which something may be sent: ESTABLISHED and CLOSE_WAIT.
_OPEN = {"01", "08"}
EXPORT = "/v1/organizations/{}/export?format=csv"
# A client hangs where it waits as long; how long it takes otherwise is the machine's affair.


def open_slowly(process, headers, org_id="acme"):
    """Ask for an export and read no more than the first bytes of the answer."""
    client = socket.socket()
    # Small, so that the server's send blocks at once.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(PATIENCE_SECONDS)
    client.connect(("127.0.0.1", process.port))
    lines = [f"GET {EXPORT.format(org_id)} HTTP/1.1", "Host: ledger", *map(": ".join, headers.items()), "", ""]
    client.sendall("\r\n".join(lines).encode())
    assert client.recv(15).startswith(b"HTTP/1.1 ")
    return client


def close(client):
    client.close()


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def say_no_more(client):
    # The client's half is closed; it reads nothing, and holds on.
    client.shutdown(socket.SHUT_WR)


def hold(_client):
    """The client does nothing at all."""


def holds(process, client):
    """Whether the service holds its end of the connection, as the kernel has it: a client that does not read hears of
    nothing."""
    ends = f":{process.port:04X}", f":{client.getsockname()[1]:04X}"
    _, *sockets = Path("/proc/net/tcp").read_text().splitlines()
    return any(
        (local[8:], remote[8:]) == ends and state in _OPEN for _, local, remote, state, *_ in map(str.split, sockets)
    )


@pytest.fixture
def impatient(stack, database):
    """The service, with little patience."""
    with running(stack, database, BYOK_SEND_SECONDS="2") as process:
        yield process


@pytest.fixture
def large(books):
    books.rate_cards()
    book_many(books, entries=20_000)
    books.book("other", org_id="globex")
    books.place()
    return books


def export_when_there_is_room(process, headers, org_id="acme"):
    """An export, asked for again as long as the service says that it is busy."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = process.get(EXPORT.format(org_id), headers)
        body = answer.read()
        if answer.status != 503 or time.monotonic() > deadline:
            return answer.status, body
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("leave", [close, reset])
def test_readers_that_go_away_give_their_places_back(process, large, reader, leave):
    clients = [open_slowly(process, reader) for _ in range(4)]
    refused = process.get(EXPORT.format("acme"), reader)
    assert (refused.status, json.loads(refused.read())["code"]) == (503, "busy")
    assert int(refused.headers["retry-after"]) > 0
    # One organization does not take the places of all.
    assert process.get(EXPORT.format("globex"), reader).read().count(b"\r\n") == 2
    for client in clients:
        leave(client)
    status, body = export_when_there_is_room(process, reader)
    assert (status, body.count(b"\r\n")) == (200, 20_002)


@pytest.mark.slow
@pytest.mark.parametrize("leave", [say_no_more, hold])
def test_readers_that_read_nothing_are_cut(impatient, large, reader, leave):
    clients = [open_slowly(impatient, reader) for _ in range(4)]
    for client in clients:
        leave(client)
    status, _ = export_when_there_is_room(impatient, reader)
    assert status == 200
    # One that went on reading before it is cut would get all of it.
    wait_for("the readers to be cut", lambda: not any(holds(impatient, client) for client in clients))
    for client in clients:
        assert not ends_whole(client)


@pytest.mark.slow
def test_an_export_that_takes_too_long_is_cut_and_is_visibly_incomplete(stack, database, large, reader):
    with running(stack, database, BYOK_EXPORT_SECONDS="0.5") as process:
        client = open_slowly(process, reader)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "its time was over" not in process.stderr():
            # Slowly, but all the time: it is not the send that is waited for in vain.
            client.recv(1000)
            assert time.monotonic() < deadline
        assert not ends_whole(client)
        assert "Traceback" not in process.stderr()


def ends_whole(client):
    """Whether the answer that the client reads to its end has one: the last chunk is of no length."""
    end = b""
    try:
        while part := client.recv(1 << 20):
            end = (end + part)[-5:]
    except ConnectionError:
        return False
    return end == b"0\r\n\r\n"
