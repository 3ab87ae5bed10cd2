"""Tokens for development: signed with a private key of our own, and good for the services' own check."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.local.dev_tokens import ALL_SCOPES, create_signing_key, sign_token, token_claims
from services.runtime.problems import Problem
from services.runtime.settings import TokenSettings
from services.runtime.tokens import TokenVerifier

NOW = datetime.now(UTC)


@pytest.fixture
def key(tmp_path):
    return create_signing_key(tmp_path)


def verify(key, token):
    return TokenVerifier(TokenSettings(jwt_jwks_file=key.jwks_file)).verify(token)


def test_the_services_accept_it_and_read_every_claim(key):
    claims = token_claims("platform", ALL_SCOPES, issued_at=NOW, lifetime=timedelta(days=30)) | {"org_role": "admin"}
    caller = verify(key, sign_token(key.key_file, claims))
    assert (caller.id, caller.org_id, caller.role) == ("platform", "*", "admin")
    assert caller.scopes == frozenset(ALL_SCOPES.split())


def test_it_expires(key):
    claims = token_claims("platform", "", issued_at=NOW - timedelta(hours=2), lifetime=timedelta(hours=1))
    with pytest.raises(Problem):
        verify(key, sign_token(key.key_file, claims))


def test_a_token_of_another_key_is_refused(key, tmp_path):
    (tmp_path / "other").mkdir()
    other = create_signing_key(tmp_path / "other")
    claims = token_claims("platform", ALL_SCOPES, issued_at=NOW, lifetime=timedelta(hours=1))
    with pytest.raises(Problem):
        verify(key, sign_token(other.key_file, claims))


def test_the_key_is_made_once_and_private_and_only_its_public_half_is_published(key, tmp_path):
    before = key.key_file.read_text(), key.jwks_file.read_text()
    assert create_signing_key(tmp_path) == key
    assert (key.key_file.read_text(), key.jwks_file.read_text()) == before
    assert key.key_file.stat().st_mode & 0o777 == 0o600
    assert '"d"' not in key.jwks_file.read_text()


def test_the_key_id_is_the_thumbprint_of_the_standard(tmp_path):
    """RFC 8037, appendix A.1 to A.3: this private key has this thumbprint."""
    jwk = {
        "kty": "OKP",
        "crv": "Ed25519",
        "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }
    private = jwt.PyJWK(jwk, "EdDSA").key
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "jwt-signing-key.pem").write_bytes(pem)
    key = create_signing_key(tmp_path)
    token = sign_token(key.key_file, {"sub": "anyone"})
    assert jwt.get_unverified_header(token)["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_key_of_another_kind_is_refused(tmp_path):
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem)
    with pytest.raises(TypeError, match="no Ed25519 key"):
        sign_token(tmp_path / "key.pem", {})
