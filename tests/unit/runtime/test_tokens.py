"""Which tokens are let in: forged ones of every known kind, and claims at and beyond their bounds."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.domain.permissions import Caller
from services.runtime.problems import Problem, install_problem_handlers
from services.runtime.settings import TokenSettings
from services.runtime.tokens import Authenticated, TokenVerifier
from tests.unit.runtime.key_server import KeyServer, assemble, ed25519, key_server, rsa

ED, RSA, MALLORY = ed25519("ed"), rsa("rsa"), ed25519("mallory")
LEEWAY_SECONDS = 30


@pytest.fixture(scope="module")
def provider() -> Iterator[KeyServer]:
    with key_server() as server:
        server.publish(ED, RSA)
        yield server


@pytest.fixture(scope="module")
def verifier(provider: KeyServer) -> TokenVerifier:
    return TokenVerifier(TokenSettings(jwt_jwks_url=provider.url, jwt_leeway_seconds=LEEWAY_SECONDS))


class Ahead(NamedTuple):
    """A time in seconds from the moment at which a test runs."""

    seconds: float


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims with changes; None leaves one out."""
    now = int(time.time())
    good = {"iss": "byok", "aud": "byok", "sub": "uma", "org_id": "acme", "org_role": "admin", "exp": now + 600}
    at = {name: now + value.seconds if isinstance(value, Ahead) else value for name, value in (good | changes).items()}
    return {name: value for name, value in at.items() if value is not None}


def refused(verifier: TokenVerifier, token: str) -> None:
    with pytest.raises(Problem) as problem:
        verifier.verify(token)
    assert (problem.value.status, problem.value.code) == (401, "invalid_token")
    assert problem.value.headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize("signer", [ED, RSA], ids=["EdDSA", "RS256"])
def test_both_algorithms(verifier: TokenVerifier, signer: Any) -> None:
    token = signer.sign(claims(scope="usage:write  ledger:read", teams={"growth": "admin"}))
    assert verifier.verify(token) == Caller(
        "uma", "acme", "admin", {"growth": "admin"}, frozenset({"usage:write", "ledger:read"})
    )


def _hmac(secret: bytes, kid: str, algorithm: str = "HS256") -> str:
    # PyJWT refuses to sign with a public key as a secret; whoever attacks does not use PyJWT.
    unsigned = assemble({"alg": algorithm, "typ": "JWT", "kid": kid}, claims()).rpartition(".")[0]
    digest = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _cut(token: str) -> str:
    return token.rpartition(".")[0]


FORGED = {
    "unsigned": assemble({"alg": "none", "kid": "ed"}, claims()),
    "unsigned, spelt otherwise": assemble({"alg": "nOnE", "kid": "ed"}, claims()),
    "an empty signature": assemble({"alg": "EdDSA", "kid": "ed"}, claims()),
    "no algorithm": assemble({"kid": "ed"}, claims()),
    "an algorithm that is a list": assemble({"alg": ["EdDSA"], "kid": "ed"}, claims()),
    "an algorithm that is null": assemble({"alg": None, "kid": "ed"}, claims()),
    "the RSA public key as an HMAC secret": _hmac(RSA.pem(), "rsa"),
    "the same without its last line feed": _hmac(RSA.pem().strip(), "rsa"),
    "the Ed25519 public key as an HMAC secret": _hmac(ED.pem(), "ed"),
    "the raw public key as an HMAC secret": _hmac(base64.urlsafe_b64decode(ED.jwk()["x"] + "="), "ed"),
    "an HMAC that says EdDSA": _hmac(ED.pem(), "ed", "EdDSA"),
    "an HMAC that says RS256": _hmac(RSA.pem(), "rsa", "RS256"),
    "EdDSA under the RSA key's id": ED.sign(claims(), kid="rsa"),
    "RS256 under the Ed25519 key's id": RSA.sign(claims(), kid="ed"),
    "RS512 with the right key": jwt.encode(claims(), RSA.private, "RS512", headers={"kid": "rsa"}),
    "PS256 with the right key": jwt.encode(claims(), RSA.private, "PS256", headers={"kid": "rsa"}),
    "ES256": jwt.encode(claims(), generate_private_key(SECP256R1()), "ES256", headers={"kid": "ed"}),
    "another's key under a known id": MALLORY.sign(claims(), kid="ed"),
    "another's key under its own id": MALLORY.sign(claims()),
    "another's key, sent along": MALLORY.sign(claims(), kid="ed", jwk=MALLORY.jwk()),
    "no key id": jwt.encode(claims(), ED.private, "EdDSA"),
    "an empty key id": ED.sign(claims(), kid=""),
    "a key id that is a list": assemble({"alg": "EdDSA", "kid": ["ed"]}, claims(), b"x" * 64),
    "a key id that is a path": ED.sign(claims(), kid="../../etc/passwd"),
    "a key id of 40,000 bytes": ED.sign(claims(), kid="k" * 40_000),
    "an unknown critical header": ED.sign(claims(), crit=["exp"], exp=1),
    "a detached payload": assemble({"alg": "EdDSA", "kid": "ed", "b64": False, "crit": ["b64"]}, claims()),
    "other claims than were signed": ".".join(
        [
            ED.sign(claims()).split(".")[0],
            assemble({}, claims(org_id="*")).split(".")[1],
            ED.sign(claims()).split(".")[2],
        ]
    ),
    "no signature part": _cut(ED.sign(claims())),
    "four parts": ED.sign(claims()) + ".AA",
    "JSON serialization": json.dumps({"payload": "", "signatures": []}),
    "nothing": "",
    "dots": "..",
    "no base64": "ä.ö.ü",
    "a header nested without end": base64.urlsafe_b64encode(b"[" * 40_000).decode() + ".e30.AA",
    "a header that is a list": assemble(["EdDSA"], claims()),
    "NUL bytes": "\x00.\x00.\x00",
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED.keys())
def test_forged_tokens(verifier: TokenVerifier, token: str) -> None:
    refused(verifier, token)


def test_nothing_a_token_names_is_fetched(verifier: TokenVerifier) -> None:
    with key_server() as mallorys:
        mallorys.publish(MALLORY)
        for header in ("jku", "x5u", "jwk"):
            refused(verifier, MALLORY.sign(claims(), **{header: mallorys.url}))
            refused(verifier, MALLORY.sign(claims(), kid=mallorys.url, **{header: mallorys.url}))
        assert mallorys.requests == 0


BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "no audience": {"aud": None},
    "another audience": {"aud": "billing"},
    "other audiences": {"aud": ["billing", "byok2"]},
    "an audience that is a part": {"aud": "byo"},
    "an audience that is a number": {"aud": 7},
    "no issuer": {"iss": None},
    "another issuer": {"iss": "https://evil"},
    "issuers in a list": {"iss": ["byok"]},
    "no expiry": {"exp": None},
    "expired": {"exp": Ahead(-LEEWAY_SECONDS - 5)},
    "an expiry in words": {"exp": "tomorrow"},
    "an expiry in a list": {"exp": [2**40]},
    "an infinite expiry": {"exp": float("inf")},
    "an expiry that is no number": {"exp": float("nan")},
    "not good yet": {"nbf": Ahead(3_600)},
    "issued in the future": {"iat": Ahead(3_600)},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is a number": {"sub": 7},
    "a subject with a line feed": {"sub": "uma\nroot"},
    "a subject over its length": {"sub": "u" * 129},
    "no organization": {"org_id": None},
    "an empty organization": {"org_id": ""},
    "organizations in a list": {"org_id": ["acme", "*"]},
    "a role that is none": {"org_role": "owner"},
    "roles in a list": {"org_role": ["admin"]},
    "teams in a list": {"teams": ["growth"]},
    "a team's role that is none": {"teams": {"growth": "owner"}},
    "a team without a name": {"teams": {"": "admin"}},
    "scopes that are a number": {"scope": 7},
    "scopes in an object": {"scope": {"usage:write": True}},
}


@pytest.mark.parametrize("changes", BAD_CLAIMS.values(), ids=BAD_CLAIMS.keys())
def test_bad_claims_under_a_good_signature(verifier: TokenVerifier, changes: dict[str, Any]) -> None:
    refused(verifier, ED.sign(claims(**changes)))


@pytest.mark.parametrize("payload", [b"[]", b"null", b"7", b'"uma"', b"", b"\xff", b"[" * 40_000])
def test_claims_that_are_no_object(verifier: TokenVerifier, payload: bytes) -> None:
    refused(verifier, jwt.PyJWS().encode(payload, ED.private, "EdDSA", headers={"kid": "ed"}))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": Ahead(-LEEWAY_SECONDS + 20)},
        {"nbf": Ahead(LEEWAY_SECONDS - 5)},
        {"iat": Ahead(LEEWAY_SECONDS - 5)},
        {"aud": ["billing", "byok"]},
        {"exp": Ahead(600.5)},
        {"unknown": {"claim": 1}},
    ],
    ids=str,
)
def test_clocks_may_differ_a_little_and_claims_of_others_do_no_harm(
    verifier: TokenVerifier, changes: dict[str, Any]
) -> None:
    assert verifier.verify(ED.sign(claims(**changes))).id == "uma"


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "bearer\t", "Token abc", f"Bearer {'x' * 30_000}", "Bearer a b c"],
)
def test_whatever_stands_in_the_header_is_401(verifier: TokenVerifier, header: str) -> None:
    app = FastAPI()
    app.state.tokens = verifier
    install_problem_handlers(app)

    @app.get("/")
    def root(caller: Authenticated) -> str:
        return caller.id

    answer = TestClient(app).get("/", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["code"] in {"unauthenticated", "invalid_token"}
    good = TestClient(app).get("/", headers={"Authorization": f"bearer {ED.sign(claims())}"})
    assert good.json() == "uma"
