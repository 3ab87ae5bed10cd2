"""A token that was verified is not verified again; and is let in no longer than if it were."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from services.domain.permissions import Caller
from services.local.dev_tokens import token_claims
from services.runtime.jwks import FRESH_SECONDS, TRUSTED_SECONDS, SigningKeys, read_url
from services.runtime.known_tokens import KnownTokens, Verified
from services.runtime.settings import TokenSettings
from services.runtime.tokens import TokenVerifier
from tests.patience import PATIENCE_SECONDS
from tests.unit.runtime.key_server import ed25519, key_server

SIGNER = ed25519("one")
WHO = Caller("svc", "*", None, {}, frozenset())


class Clock:
    """Two clocks that can be put forward: one counts from somewhere, the other from 1970."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def time(self) -> float:
        return time.time() + self.ahead


def wait_for_key(keys: SigningKeys) -> jwt.PyJWK:
    key = keys.find("one")
    assert key is not None
    return key


def test_it_is_known_until_its_end_and_the_leeway() -> None:
    clock = Clock()
    with key_server() as provider:
        provider.publish(SIGNER)
        keys = SigningKeys(lambda: read_url(provider.url))
        known = KnownTokens(keys, leeway_seconds=30, clock=clock.time)
        verified = Verified(WHO, int(time.time()) + 60)
        known.keep("token", verified, wait_for_key(keys))
        assert known.find("token") == verified
        assert known.find("token2") is None
        clock.ahead = 85
        assert known.find("token") == verified
        clock.ahead = 95
        assert known.find("token") is None


def test_keys_that_were_read_anew_make_every_token_unknown() -> None:
    clock = Clock()
    with key_server() as provider:
        provider.publish(SIGNER)
        keys = SigningKeys(lambda: read_url(provider.url), clock.monotonic)
        known = KnownTokens(keys, leeway_seconds=30)
        known.keep("token", Verified(WHO, int(time.time()) + 3600), wait_for_key(keys))
        clock.ahead = FRESH_SECONDS + 1
        deadline = time.monotonic() + PATIENCE_SECONDS
        while known.find("token") is not None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert provider.requests == 2


def test_keys_that_are_no_longer_trusted_make_every_token_unknown() -> None:
    clock = Clock()
    with key_server() as provider:
        provider.publish(SIGNER)
        keys = SigningKeys(lambda: read_url(provider.url), clock.monotonic)
        key = wait_for_key(keys)
        known = KnownTokens(keys, leeway_seconds=30)
        known.keep("token", Verified(WHO, int(time.time()) + 3600), key)
    # The provider is away now.
    clock.ahead = TRUSTED_SECONDS + 1
    assert known.find("token") is None


@pytest.fixture
def verifier() -> Any:
    with key_server() as provider:
        provider.publish(SIGNER)
        yield TokenVerifier(TokenSettings(jwt_jwks_url=provider.url))


def test_only_what_was_verified_is_known(verifier: TokenVerifier) -> None:
    claims = token_claims("svc", "", issued_at=datetime.now(UTC), lifetime=timedelta(hours=1))
    token = SIGNER.sign(claims)
    forged = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    assert verifier.known(token) is None
    caller = verifier.verify(token)
    assert verifier.known(token) == caller
    assert verifier.known(forged) is None
