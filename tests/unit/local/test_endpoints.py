"""Ports: consecutive, checked before use, and named when taken."""

from __future__ import annotations

import random
import socket
from datetime import UTC, datetime

import pytest

from services.local import endpoints
from services.local.dev_tokens import create_signing_key
from services.local.embedded.databases import LOGIN_ROLES
from services.local.endpoints import Ports
from services.local.processes import StackError
from services.local.wiring import Wiring
from services.runtime.problems import Problem
from services.runtime.rate_limit import RateLimit
from services.runtime.settings import TokenSettings
from services.runtime.tokens import TokenVerifier


def test_a_free_block_is_consecutive_and_can_be_asked_for_by_its_base():
    ports = Ports.free_block()
    assert list(ports) == list(range(ports.kafka, ports.kafka + 7))
    assert Ports.from_base(ports.kafka) == ports
    assert ports.address("ledger") == f"127.0.0.1:{ports.kafka + 3}"


def test_a_block_is_given_once_though_nobody_listens_there_yet(monkeypatch):
    class Always(random.Random):
        def randrange(self, *_):
            return base

    base = Ports.free_block().kafka
    monkeypatch.setattr(endpoints, "_chance", Always())
    with pytest.raises(StackError, match="no 7 consecutive free ports"):
        Ports.free_block()
    # Another process would be refused alike: the port behind the block is held.
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", base + 7))


@pytest.mark.parametrize("name", Ports._fields)
def test_a_taken_port_is_named(name):
    ports = Ports.free_block()
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports._asdict()[name]))
        other.listen()
        with pytest.raises(StackError, match=rf"port {ports._asdict()[name]} \({name}\) is taken"):
            Ports.from_base(ports.kafka)


@pytest.mark.parametrize("base", [-1, 0, 65_532, 70_000])
def test_a_base_without_enough_ports_is_refused(base):
    with pytest.raises(StackError, match="no 7 ports"):
        Ports.from_base(base)


def test_of_the_tokens_of_a_stack_the_platforms_alone_has_no_rate_limit(tmp_path):
    key = create_signing_key(tmp_path)
    files = {name: tmp_path / name for name in ("kek_file", "session_key_file", "personas_file")}
    wiring = Wiring(Ports(*range(1, 8)), dict.fromkeys(LOGIN_ROLES, "x"), signing_key=key, **files)
    tokens = wiring.endpoints(datetime.now(UTC)).tokens
    verifier = TokenVerifier(TokenSettings(jwt_jwks_file=key.jwks_file))
    limit = RateLimit(0.001, 1)
    for _ in range(100):
        limit.admit(verifier.verify(tokens.platform))
    for token in (tokens.runner, tokens.billing):
        limit.admit(verifier.verify(token))
        with pytest.raises(Problem, match="rate_limited"):
            limit.admit(verifier.verify(token))
