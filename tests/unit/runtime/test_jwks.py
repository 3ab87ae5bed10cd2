"""Where the keys for tokens come from: an identity provider that is down, slow, huge, hostile, or rotates its keys."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jwt
import pytest

from services.local.dev_tokens import token_claims
from services.runtime.jwks import (
    FRESH_SECONDS,
    JWKS_BYTES_MAX,
    READ_SECONDS_MAX,
    READINGS_AT_ONCE,
    SECONDS_PER_READING,
    TRUSTED_SECONDS,
)
from services.runtime.problems import Problem
from services.runtime.settings import Environment, SettingsError, TokenSettings
from services.runtime.tokens import TokenVerifier
from tests.patience import PATIENCE_SECONDS, wait_for
from tests.unit.runtime.key_server import KeyServer, Signer, document, ed25519, key_server, rsa

OLD, NEW, RSA = ed25519("old"), ed25519("new"), rsa("rsa")


class Clock:
    """A clock that runs, and can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def provider() -> Iterator[KeyServer]:
    with key_server() as server:
        server.publish(OLD)
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


def token(signer: Signer, **header: str) -> str:
    return signer.sign(token_claims("svc", "", issued_at=datetime.now(UTC), lifetime=timedelta(hours=1)), **header)


def status(verifier: TokenVerifier, of_token: str) -> int:
    """What the caller of this token would be answered; 200 where it is let in."""
    try:
        verifier.verify(of_token)
    except Problem as problem:
        return problem.status
    return 200


def verifier_on(provider: KeyServer, clock: Clock) -> TokenVerifier:
    return TokenVerifier(TokenSettings(jwt_jwks_url=provider.url), clock)


def test_keys_are_read_once_and_kept(provider: KeyServer, clock: Clock) -> None:
    provider.publish(OLD, RSA)
    verifier = verifier_on(provider, clock)
    assert {status(verifier, token(signer)) for signer in (OLD, RSA) for _ in range(50)} == {200}
    assert provider.requests == 1


def test_a_rotated_key_is_picked_up_at_once_and_the_old_one_goes(provider: KeyServer, clock: Clock) -> None:
    verifier = verifier_on(provider, clock)
    assert status(verifier, token(OLD)) == 200
    assert status(verifier, token(NEW)) == 401
    provider.publish(NEW)
    assert status(verifier, token(NEW)) == 200
    assert status(verifier, token(OLD)) == 401


def test_a_key_that_was_taken_back_goes_when_keys_are_read_anew(provider: KeyServer, clock: Clock) -> None:
    provider.publish(OLD, NEW)
    verifier = verifier_on(provider, clock)
    assert status(verifier, token(OLD)) == 200
    provider.publish(NEW)
    clock.ahead = FRESH_SECONDS + 1
    # The first one may still be let in: nobody waits for a reading under a key that is known.
    wait_for("the keys to be read anew", lambda: status(verifier, token(OLD)) == 401)
    assert status(verifier, token(NEW)) == 200


def test_junk_key_ids_do_not_hammer_the_url(provider: KeyServer, clock: Clock) -> None:
    verifier = verifier_on(provider, clock)
    began = time.monotonic()
    for number in range(1_000):
        assert status(verifier, token(NEW, kid=f"junk-{number}")) == 401
    allowed = READINGS_AT_ONCE + (time.monotonic() - began) / SECONDS_PER_READING
    assert 1 < provider.requests <= allowed
    assert status(verifier, token(OLD)) == 200
    provider.publish(NEW)
    assert status(verifier, token(NEW)) == 401
    clock.ahead += SECONDS_PER_READING
    assert status(verifier, token(NEW)) == 200


def test_a_token_without_a_key_id_or_with_another_algorithm_costs_no_request(provider: KeyServer, clock: Clock) -> None:
    verifier = verifier_on(provider, clock)
    assert status(verifier, token(OLD)) == 200
    claims = token_claims("svc", "", issued_at=datetime.now(UTC), lifetime=timedelta(hours=1))
    for bad in (
        jwt.encode(claims, OLD.private, "EdDSA"),
        jwt.encode(claims, "x" * 64, "HS256", headers={"kid": "unknown"}),
        jwt.encode(claims, None, "none", headers={"kid": "unknown"}),
    ):
        assert status(verifier, bad) == 401
    assert provider.requests == 1


@pytest.mark.parametrize(
    "answer",
    [
        document(b"", 500),
        document(b"", 404),
        document(b"not JSON"),
        document(b"[]"),
        document(b'{"keys": []}'),
        document(b'{"keys": {}}'),
        document(b'{"keys": [1, null, {}, {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "old"}]}'),
        document(b"[" * 500_000),
        document(b'{"keys": "' + b"x" * JWKS_BYTES_MAX + b'"}'),
        document(json.dumps({"keys": [OLD.jwk(use="enc")]}).encode()),
        document(json.dumps({"keys": [OLD.private_jwk()]}).encode()),
        document(json.dumps({"keys": [OLD.jwk(kid=None)]}).encode()),
        document(json.dumps({"keys": [OLD.jwk(kid=["old"])]}).encode()),
        document(json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "old", "alg": "HS256"}]}).encode()),
        document(json.dumps({"keys": [rsa("old", 1024).jwk()]}).encode()),
        document(b"", 302, Location="http://127.0.0.1:9/"),
        lambda request: request.wfile.write(b"HTTP/1.1 nonsense\r\n\r\n"),
        lambda request: request.connection.close(),
    ],
)
def test_a_url_without_usable_keys_is_told_as_such_and_recovers(
    provider: KeyServer, clock: Clock, answer: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    provider.serve = answer
    verifier = verifier_on(provider, clock)
    with pytest.raises(Problem) as refused:
        verifier.verify(token(OLD))
    assert (refused.value.status, refused.value.code) == (503, "keys_unavailable")
    assert refused.value.headers["Retry-After"]
    for _ in range(100):
        assert status(verifier, token(OLD)) == 503
    assert provider.requests <= READINGS_AT_ONCE + 1
    provider.publish(OLD)
    clock.ahead = SECONDS_PER_READING
    wait_for("the keys to be read anew", lambda: status(verifier, token(OLD)) == 200)


def test_an_outage_of_the_url_changes_nothing_for_a_day(provider: KeyServer, clock: Clock) -> None:
    verifier = verifier_on(provider, clock)
    assert status(verifier, token(OLD)) == 200
    provider.serve = document(b"", 503)
    for hours in range(24):
        clock.ahead = hours * 3600
        assert status(verifier, token(OLD)) == 200
    clock.ahead = TRUSTED_SECONDS + 60
    assert status(verifier, token(OLD)) == 503
    provider.publish(OLD)
    clock.ahead += SECONDS_PER_READING
    wait_for("the keys to be read anew", lambda: status(verifier, token(OLD)) == 200)


def test_a_slow_url_holds_up_nobody_whose_key_is_known(provider: KeyServer, clock: Clock) -> None:
    verifier = verifier_on(provider, clock)
    assert status(verifier, token(OLD)) == 200
    release = threading.Event()

    def wait(_request: BaseHTTPRequestHandler) -> None:
        release.wait(PATIENCE_SECONDS)

    provider.serve = wait
    clock.ahead = FRESH_SECONDS + 1
    waited: list[float] = []

    def come_with_junk() -> None:
        began = time.monotonic()
        assert status(verifier, token(NEW)) == 503
        waited.append(time.monotonic() - began)

    strangers = [threading.Thread(target=come_with_junk) for _ in range(60)]
    for stranger in strangers:
        stranger.start()
    for _ in range(200):
        began = time.monotonic()
        assert status(verifier, token(OLD)) == 200
        assert time.monotonic() - began < READ_SECONDS_MAX / 2, "it waited for the reading"
    for stranger in strangers:
        stranger.join(PATIENCE_SECONDS)
    # Most are sent away at once, so that they do not take every thread of the service.
    assert len(waited) == 60
    assert sum(seconds > READ_SECONDS_MAX / 2 for seconds in waited) <= 20
    assert max(waited) < 3 * READ_SECONDS_MAX
    assert provider.requests == 2
    release.set()


@pytest.mark.parametrize("piece", [b" " * 65_536, b" "], ids=["huge", "drop by drop"])
def test_an_answer_that_never_ends_is_given_up(provider: KeyServer, clock: Clock, piece: bytes) -> None:
    sent, ended = 0, threading.Event()

    def without_end(request: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(piece)
                sent += len(piece)
                time.sleep(0 if len(piece) > 1 else 0.2)
        except OSError:
            ended.set()

    provider.serve = without_end
    verifier = verifier_on(provider, clock)
    assert status(verifier, token(OLD)) == 503
    assert ended.wait(PATIENCE_SECONDS)
    # What lies in the buffers of two sockets on top.
    assert sent < JWKS_BYTES_MAX + 16 * 2**20


def test_a_reading_that_never_ends_is_given_up_for_another(provider: KeyServer, clock: Clock) -> None:
    released = threading.Event()

    def headers_without_end(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        # Each drop is within the time that a socket may be silent.
        while not released.wait(0.2):
            request.wfile.write(b"x")

    provider.serve = headers_without_end
    verifier = verifier_on(provider, clock)
    assert status(verifier, token(OLD)) == 503
    provider.publish(OLD)
    clock.ahead = 2 * READ_SECONDS_MAX + 1
    assert status(verifier, token(OLD)) == 200
    # What the first one brings at last is older than what is known.
    released.set()
    assert status(verifier, token(OLD)) == 200


def test_a_file_is_read_anew_for_a_key_that_is_not_known(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "jwks.json"
    verifier = TokenVerifier(TokenSettings(jwt_jwks_file=path), clock)
    assert status(verifier, token(OLD)) == 503
    path.write_text(json.dumps({"keys": [OLD.jwk()]}))
    assert status(verifier, token(OLD)) == 200
    path.write_text(json.dumps({"keys": [NEW.jwk()]}))
    assert (status(verifier, token(NEW)), status(verifier, token(OLD))) == (200, 401)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({}, "BYOK_JWT_JWKS_FILE"),
        ({"jwt_jwks_url": "file:///etc/passwd"}, "BYOK_JWT_JWKS_URL"),
        ({"jwt_jwks_url": "ftp://keys"}, "BYOK_JWT_JWKS_URL"),
        ({"jwt_jwks_file": Path("jwks.json"), "jwt_signing_key_file": Path("key.pem")}, "BYOK_JWT_SIGNING_KEY_FILE"),
    ],
)
def test_settings_that_are_not_for_production(more: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        TokenVerifier(TokenSettings(env=Environment.PRODUCTION, **more))


def test_the_signing_key_of_development_may_be_named_in_development(tmp_path: Path) -> None:
    TokenVerifier(TokenSettings(env="development", jwt_jwks_file=tmp_path, jwt_signing_key_file=tmp_path))
