"""Who calls: bearer JWTs, checked against a JWKS (docs/contract.md, section 8). EdDSA and RS256, nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.concurrency import run_in_threadpool

from schemas.fields import Id
from services.domain.permissions import Caller
from services.runtime.claims import Role, claims_table, our_claims
from services.runtime.jwks import ALGORITHMS, Clock, KeysUnavailable, SigningKeys, read_file, read_url
from services.runtime.known_tokens import KnownTokens, Verified
from services.runtime.logs import logger
from services.runtime.problems import Problem
from services.runtime.settings import Environment, SettingsError, TokenSettings

_log = logger(__name__)


class _Claims(BaseModel):
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

    def caller(self) -> Caller:
        return Caller(self.sub, self.org_id, self.org_role, self.teams, self.scopes)


class TokenRefusedError(Exception):
    """A token is not good. ``cause`` says why to whoever holds it, or to a log; services answer no more than that."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(type(cause).__name__)
        self.cause = cause


class TokenVerifier:
    """Checks signature, algorithm, issuer, audience and times of a token against a JWKS from a file or a URL."""

    def __init__(self, settings: TokenSettings, clock: Clock = time.monotonic) -> None:
        """Raises SettingsError for settings that name no keys, cannot be used, or are not for production."""
        self._settings = settings
        file = settings.jwt_claims_file
        self._table = None if file is None else claims_table(file)
        self._keys = SigningKeys(_source(settings), clock)
        self._known = KnownTokens(self._keys, leeway_seconds=settings.jwt_leeway_seconds)

    def verify(self, token: str) -> Caller:
        """The caller. Raises 401 ``invalid_token`` without saying more than that; 503 when no key can be had."""
        try:
            return self.look(token).caller
        except TokenRefusedError as refused:
            _log.info("token refused", error=str(refused))
            raise _unauthenticated("invalid_token", "The token is not valid.") from None

    def look(self, token: str) -> Verified:
        """The same with its end. Raises TokenRefusedError with the cause; 503 when no key can be had."""
        known = self._known.find(token)
        if known is not None:
            return known
        try:
            key = _key(self._keys, jwt.get_unverified_header(token))
            claims = _claims(
                token,
                key,
                issuer=self._settings.jwt_issuer,
                audience=self._settings.jwt_audience,
                leeway_seconds=self._settings.jwt_leeway_seconds,
            )
            ours = claims if self._table is None else our_claims(self._table, claims)
            verified = Verified(_Claims.model_validate(ours).caller(), int(claims["exp"]))
        except KeysUnavailable:
            raise keys_unavailable() from None
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenRefusedError(error) from None
        self._known.keep(token, verified, key)
        return verified

    def known(self, token: str) -> Caller | None:
        """The caller, where the token was found good a moment ago: it takes microseconds, and waits for nothing."""
        found = self._known.find(token)
        return None if found is None else found.caller


def signed_claims(token: str, keys: SigningKeys, *, issuer: str, audience: str, leeway_seconds: int) -> dict[str, Any]:
    """What a token says, once signature, algorithm, issuer, audience and times are right.

    Raises PyJWTError, ValueError or RecursionError where it is not good; KeysUnavailable.
    """
    key = _key(keys, jwt.get_unverified_header(token))
    return _claims(token, key, issuer=issuer, audience=audience, leeway_seconds=leeway_seconds)


def _claims(token: str, key: jwt.PyJWK, *, issuer: str, audience: str, leeway_seconds: int) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token,
        key=key,
        algorithms=[key.algorithm_name],
        issuer=issuer,
        audience=audience,
        leeway=leeway_seconds,
        options={"require": ["exp", "iss", "aud", "sub"]},
    )
    return claims


def _key(keys: SigningKeys, header: dict[str, Any]) -> jwt.PyJWK:
    kid, algorithm = header.get("kid"), header.get("alg")
    # What can be told from the token alone costs no look for keys.
    if not isinstance(kid, str) or not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise jwt.InvalidTokenError("no key id, or an algorithm that we do not take")
    key = keys.find(kid)
    if key is None or algorithm != key.algorithm_name:
        raise jwt.InvalidTokenError("unknown key, or one for another algorithm")
    return key


def keys_unavailable() -> Problem:
    """What is answered while nobody can say whether a token is good."""
    detail = "The keys that sign tokens cannot be read; try again."
    return Problem(503, "keys_unavailable", detail, headers={"Retry-After": "5"})


def _source(settings: TokenSettings) -> Callable[[], bytes]:
    if settings.env is Environment.PRODUCTION and settings.jwt_signing_key_file is not None:
        raise SettingsError("BYOK_JWT_SIGNING_KEY_FILE is for development; unset it, or set BYOK_ENV to development")
    if settings.jwt_jwks_file is not None:
        return partial(read_file, settings.jwt_jwks_file)
    url = settings.jwt_jwks_url
    if url is None:
        raise SettingsError("BYOK_JWT_JWKS_FILE or BYOK_JWT_JWKS_URL must be set")
    if not url.lower().startswith(("http://", "https://")):
        raise SettingsError("BYOK_JWT_JWKS_URL must begin with https:// (or http:// in a network that you trust)")
    return partial(read_url, url)


def _unauthenticated(code: str, detail: str) -> Problem:
    return Problem(401, code, detail, headers={"WWW-Authenticate": "Bearer"})


_bearer = HTTPBearer(auto_error=False, description="A JWT signed with EdDSA or RS256.")


async def authenticate(request: Request) -> Caller:
    """Whose token the request bears, looked at before anything else of it. Raises as ``TokenVerifier.verify`` does."""
    return await _verified(request, _token(await _bearer(request)))


async def _verified(request: Request, token: str) -> Caller:
    verifier: TokenVerifier = request.app.state.tokens
    # Keys may have to be fetched first, which no other request waits for.
    known = verifier.known(token)
    return await run_in_threadpool(verifier.verify, token) if known is None else known


def _token(credentials: HTTPAuthorizationCredentials | None) -> str:
    if credentials is None:
        raise _unauthenticated("unauthenticated", "This needs a bearer token in the Authorization header.")
    return credentials.credentials


async def _caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    known: Caller | None = getattr(request.state, "caller", None)
    return await _verified(request, _token(credentials)) if known is None else known


Authenticated = Annotated[Caller, Depends(_caller)]
"""A parameter of a route that needs a caller; the application keeps its verifier in ``app.state.tokens``."""
