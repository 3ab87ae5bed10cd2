"""Who calls: bearer JWTs, checked against a JWKS (CONTRACT section 8). EdDSA and RS256, nothing else."""

from __future__ import annotations

import json
import threading
import time
from typing import Annotated, Any, Literal

import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from schemas.fields import Id
from services.runtime.logs import logger
from services.runtime.problems import Problem
from services.runtime.settings import Settings, SettingsError

_log = logger(__name__)

ALGORITHMS = ["EdDSA", "RS256"]
EVERY_ORGANIZATION = "*"
Role = Literal["admin", "member"]

_JWKS_SECONDS_MAX = 300.0
# An unknown key id makes us look again, but not at every forged token.
_JWKS_SECONDS_MIN = 5.0


class Caller(BaseModel):
    """The claims of a token that has been checked."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sub: Id
    org_id: Id
    org_role: Role | None = None
    teams: dict[Id, Role] = {}
    scopes: frozenset[str] = Field(frozenset(), alias="scope")

    @field_validator("scopes", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return frozenset(value.split()) if isinstance(value, str) else value

    @property
    def everywhere(self) -> bool:
        """Whether the token is good for every organization."""
        return self.org_id == EVERY_ORGANIZATION

    def good_for(self, org_id: str) -> bool:
        """Whether the token is good for this organization."""
        return self.everywhere or self.org_id == org_id

    def require_scope(self, scope: str) -> None:
        """Raise 403 ``insufficient_scope`` where the token lacks ``scope``."""
        if scope not in self.scopes:
            raise Problem(403, "insufficient_scope", f"This needs a token with the scope {scope}.")

    def require_organization(self, org_id: str) -> None:
        """Raise 403 ``organization_forbidden`` where the token is not good for the organization."""
        if not self.good_for(org_id):
            raise Problem(403, "organization_forbidden", "This token is not good for that organization.")


class TokenVerifier:
    """Checks signature, algorithm, issuer, audience and times of a token against a JWKS from a file or a URL."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError when neither BYOK_JWT_JWKS_FILE nor BYOK_JWT_JWKS_URL is set."""
        if settings.jwt_jwks_file is None and settings.jwt_jwks_url is None:
            raise SettingsError("BYOK_JWT_JWKS_FILE or BYOK_JWT_JWKS_URL must be set")
        self._settings = settings
        self._keys: dict[str, jwt.PyJWK] = {}
        self._loaded_at = float("-inf")
        self._lock = threading.Lock()

    def verify(self, token: str) -> Caller:
        """The caller. Raises 401 ``invalid_token`` without saying more than that; 503 when no key can be had."""
        try:
            key = self._key(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                key=key,
                algorithms=[key.algorithm_name],
                issuer=self._settings.jwt_issuer,
                audience=self._settings.jwt_audience,
                leeway=self._settings.jwt_leeway_seconds,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            return Caller.model_validate(claims)
        except (jwt.PyJWTError, ValidationError, ValueError) as error:
            _log.info("token refused", error=type(error).__name__)
            raise _unauthenticated("invalid_token", "The token is not valid.") from None

    def _key(self, header: dict[str, Any]) -> jwt.PyJWK:
        kid, algorithm = header.get("kid"), header.get("alg")
        key = self._known(kid)
        if key is None or algorithm not in ALGORITHMS or algorithm != key.algorithm_name:
            raise jwt.InvalidTokenError("unknown key or algorithm")
        return key

    def _known(self, kid: Any) -> jwt.PyJWK | None:
        with self._lock:
            age = time.monotonic() - self._loaded_at
            if age > _JWKS_SECONDS_MAX or (kid not in self._keys and age > _JWKS_SECONDS_MIN):
                self._reload()
            return self._keys.get(kid) if isinstance(kid, str) else None

    def _reload(self) -> None:
        try:
            keys = jwt.PyJWKSet.from_dict(self._read()).keys
        except (OSError, ValueError, jwt.PyJWTError) as error:
            _log.error("JWKS cannot be read", error=type(error).__name__)
            if not self._keys:
                raise Problem(503, "keys_unavailable", "The keys that sign tokens cannot be read.") from None
            return
        self._keys = {key.key_id: key for key in keys if key.key_id and key.algorithm_name in ALGORITHMS}
        self._loaded_at = time.monotonic()

    def _read(self) -> dict[str, Any]:
        if self._settings.jwt_jwks_file is not None:
            loaded: dict[str, Any] = json.loads(self._settings.jwt_jwks_file.read_text())
            return loaded
        client = jwt.PyJWKClient(str(self._settings.jwt_jwks_url), cache_keys=False, timeout=5)
        fetched: dict[str, Any] = client.fetch_data()
        return fetched


def _unauthenticated(code: str, detail: str) -> Problem:
    return Problem(401, code, detail, headers={"WWW-Authenticate": "Bearer"})


_bearer = HTTPBearer(auto_error=False, description="A JWT signed with EdDSA or RS256.")


def _caller(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    if credentials is None:
        raise _unauthenticated("unauthenticated", "This needs a bearer token in the Authorization header.")
    verifier: TokenVerifier = request.app.state.tokens
    return verifier.verify(credentials.credentials)


Authenticated = Annotated[Caller, Depends(_caller)]
"""A parameter of a route that needs a caller; the application keeps its verifier in ``app.state.tokens``."""
