"""Tokens for development: an Ed25519 key of our own, its JWKS, and JWTs signed with it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from services.domain.permissions import SCOPES
from services.runtime.private_file import write_private

ALL_SCOPES = " ".join(SCOPES)
"""The six scopes of docs/contract.md, section 8."""


class SigningKey(NamedTuple):
    """Where a signing key and the public keys to check its signatures with are kept."""

    key_file: Path
    jwks_file: Path


def create_signing_key(folder: Path) -> SigningKey:
    """The signing key in ``folder``, made if there is none: a PEM file (0600), and the JWKS that goes with it."""
    files = SigningKey(folder / "jwt-signing-key.pem", folder / "jwks.json")
    if not files.key_file.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(files.key_file, pem.decode())
    # Always anew, so that it fits the key whatever happened between the two writes.
    write_private(files.jwks_file, json.dumps({"keys": [_public_jwk(_load(files.key_file))]}, indent=2))
    return files


def token_claims(
    subject: str,
    scope: str,
    *,
    issued_at: datetime,
    lifetime: timedelta,
    org_id: str = "*",
    issuer: str = "byok",
    audience: str = "byok",
) -> dict[str, Any]:
    """The claims of a service's token (docs/contract.md, section 8); add ``org_role`` or ``teams`` as needed."""
    return {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "org_id": org_id,
        "scope": scope,
        "iat": issued_at,
        "exp": issued_at + lifetime,
    }


def sign_token(key_file: Path, claims: Mapping[str, Any]) -> str:
    """The claims as a JWT, signed with the PEM key in ``key_file`` (EdDSA); its ``kid`` is the key's thumbprint."""
    key = _load(key_file)
    return jwt.encode(dict(claims), key, algorithm="EdDSA", headers={"kid": _public_jwk(key)["kid"]})


def _load(key_file: Path) -> Ed25519PrivateKey:
    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"{key_file} holds no Ed25519 key")
    return key


def _public_jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    jwk: dict[str, str] = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    # RFC 7638 with RFC 8037: the hash of the required members alone, sorted and without spaces.
    required = json.dumps({name: jwk[name] for name in ("crv", "kty", "x")}, separators=(",", ":"))
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(required.encode()).digest()).rstrip(b"=").decode()
    return {"kty": jwk["kty"], "crv": jwk["crv"], "x": jwk["x"], "use": "sig", "alg": "EdDSA", "kid": thumbprint}
