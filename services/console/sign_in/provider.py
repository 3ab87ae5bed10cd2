"""The identity provider (OpenID Connect): what it says of itself, and what it gives for a code or a refresh token.

Authlib has the protocol; the requests are ours, so that they are bounded as all others are.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, NamedTuple
from urllib.parse import urlencode

import httpx
import jwt
from authlib.common.urls import add_params_to_uri
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc.errors import ClaimError, JoseError
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from starlette.concurrency import run_in_threadpool

from services.console.settings import ConsoleSettings
from services.console.sign_in.attempts import Attempt
from services.runtime.http_client import client_options
from services.runtime.jwks import KeysUnavailable, SigningKeys, read_url
from services.runtime.logs import logger
from services.runtime.private_file import read_secret, warn_of_readers
from services.runtime.settings import Environment, SettingsError
from services.runtime.tokens import signed_claims

_log = logger(__name__)

_SECONDS = 10.0
_ANSWER_BYTES_MAX = 256 * 1024
_FRESH_SECONDS = 3600.0
"""After this time the provider is asked anew what it says of itself."""
_TRUSTED_SECONDS = 24 * 3600.0
"""So long it counts although it cannot be asked anew."""
_AGAIN_SECONDS = 5.0
"""So long after it was away it is not asked again."""
_WELL_KNOWN = "/.well-known/openid-configuration"


class ProviderAwayError(Exception):
    """It does not answer, or nothing that can be used."""


class ProviderRefusedError(Exception):
    """It, or what it gave, is no ground to let somebody in; ``code`` is OAuth's, or one of ours."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Endpoints(BaseModel):
    """The discovery document, as far as it is read."""

    model_config = ConfigDict(frozen=True)

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    revocation_endpoint: str | None = None
    end_session_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False

    def urls(self) -> list[str]:
        """All of them."""
        every = (self.authorization_endpoint, self.token_endpoint, self.jwks_uri)
        return [*every, *filter(None, (self.revocation_endpoint, self.end_session_endpoint))]


class Tokens(NamedTuple):
    """What somebody goes on with."""

    token: str
    """What the services are asked with."""
    refresh_token: str | None


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)

    access_token: Annotated[SecretStr, Field(min_length=1)] | None = None
    id_token: Annotated[SecretStr, Field(min_length=1)] | None = None
    refresh_token: Annotated[SecretStr, Field(min_length=1)] | None = None
    error: str | None = None


class Provider:
    """The one that people sign in with. Everything that asks it raises ProviderAwayError."""

    def __init__(self, settings: ConsoleSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises SettingsError for what is missing or cannot be used."""
        self._issuer = _issuer(settings)
        self._client_id = settings.console_oidc_client_id or ""
        if not self._client_id:
            raise SettingsError("BYOK_CONSOLE_OIDC_CLIENT_ID is not set; the provider knows the console by it")
        self._secret = _secret(settings)
        self._scopes = settings.console_oidc_scopes
        self._taken = settings.console_oidc_token
        self._leeway = settings.jwt_leeway_seconds
        self._clock = clock
        self._known: _Endpoints | None = None
        self._known_at = self._failed_at = float("-inf")
        self._asking = asyncio.Lock()
        self._keys: dict[str, SigningKeys] = {}

    async def begin(self, attempt: Attempt, redirect_uri: str) -> str:
        """Where the browser goes to sign in."""
        endpoints = await self._endpoints()
        url: str = prepare_grant_uri(
            endpoints.authorization_endpoint,
            self._client_id,
            "code",
            redirect_uri,
            self._scopes,
            attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
        return url

    async def finish(self, said: Mapping[str, str], attempt: Attempt, redirect_uri: str) -> Tokens:
        """What it gives for what it sent the browser back with. Raises ProviderRefusedError."""
        endpoints = await self._endpoints()
        sender = said.get("iss")
        # RFC 9207: what another provider sent is not to be taken to this one.
        if sender != endpoints.issuer and (sender or endpoints.authorization_response_iss_parameter_supported):
            raise ProviderRefusedError("wrong_issuer")
        if "error" in said or not said.get("code"):
            raise ProviderRefusedError(said.get("error", "no_code"))
        answer = await self._given(
            endpoints,
            "authorization_code",
            redirect_uri=redirect_uri,
            code=said["code"],
            code_verifier=attempt.verifier,
        )
        if answer.id_token is None:
            raise ProviderRefusedError("no_id_token")
        await run_in_threadpool(self._check_id_token, endpoints, answer, attempt.nonce)
        return self._tokens(answer, None)

    async def renew(self, refresh_token: str) -> Tokens:
        """New tokens for a refresh token, which may be worth nothing from then on. Raises ProviderRefusedError."""
        endpoints = await self._endpoints()
        answer = await self._given(endpoints, "refresh_token", refresh_token=refresh_token)
        return self._tokens(answer, refresh_token)

    async def revoke(self, refresh_token: str) -> None:
        """Have the refresh token be worth nothing, where the provider takes that."""
        endpoints = await self._endpoints()
        if endpoints.revocation_endpoint is not None:
            body = urlencode({"token": refresh_token, "token_type_hint": "refresh_token"})
            await self._post(endpoints, endpoints.revocation_endpoint, body)

    async def sign_out_link(self, back: str) -> str | None:
        """Where one signs out of the provider itself, and comes ``back`` from; None where there is no such place.

        Who it is, the provider knows by its own cookie: no token of ours goes into a URL.
        """
        try:
            end = (await self._endpoints()).end_session_endpoint
        except ProviderAwayError:
            return None
        if end is None:
            return None
        link: str = add_params_to_uri(end, [("client_id", self._client_id), ("post_logout_redirect_uri", back)])
        return link

    async def _given(self, endpoints: _Endpoints, grant: str, **fields: str) -> _Answer:
        status, text = await self._post(endpoints, endpoints.token_endpoint, prepare_token_request(grant, **fields))
        try:
            answer = _Answer.model_validate_json(text)
        except ValidationError:
            raise ProviderAwayError(f"no answer of a token endpoint, status {status}") from None
        if answer.error is not None or status >= httpx.codes.BAD_REQUEST:
            raise ProviderRefusedError(answer.error or "refused")
        return answer

    def _tokens(self, answer: _Answer, before: str | None) -> Tokens:
        token = answer.access_token if self._taken == "access_token" else answer.id_token
        if token is None:
            raise ProviderRefusedError(f"no_{self._taken}")
        after = answer.refresh_token
        return Tokens(token.get_secret_value(), before if after is None else after.get_secret_value())

    def _check_id_token(self, endpoints: _Endpoints, answer: _Answer, nonce: str) -> None:
        """Raise ProviderRefusedError where it is not for us, or not of this attempt."""
        token = answer.id_token.get_secret_value() if answer.id_token else ""
        try:
            claims = signed_claims(
                token,
                self._keys_at(endpoints.jwks_uri),
                issuer=endpoints.issuer,
                audience=self._client_id,
                leeway_seconds=self._leeway,
            )
            of_attempt = {
                "nonce": nonce,
                "client_id": self._client_id,
                "access_token": answer.access_token and answer.access_token.get_secret_value(),
            }
            CodeIDToken(claims, jwt.get_unverified_header(token), None, of_attempt).validate(leeway=self._leeway)
        except KeysUnavailable:
            raise ProviderAwayError("its keys cannot be read") from None
        except ClaimError as error:
            raise ProviderRefusedError(f"id_token_{error.claim}") from None
        except (jwt.PyJWTError, JoseError, ValueError, RecursionError) as error:
            raise ProviderRefusedError(f"id_token_{type(error).__name__}") from None

    def _keys_at(self, url: str) -> SigningKeys:
        if url not in self._keys:
            # It moves hardly ever; those before are of no use then.
            self._keys = {url: SigningKeys(partial(read_url, url))}
        return self._keys[url]

    async def _endpoints(self) -> _Endpoints:
        if self._known is not None and self._clock() - self._known_at <= _FRESH_SECONDS:
            return self._known
        async with self._asking:
            # Whoever was before may have asked.
            if self._known is not None and self._clock() - self._known_at <= _FRESH_SECONDS:
                return self._known
            if self._clock() - self._failed_at > _AGAIN_SECONDS:
                try:
                    self._known, self._known_at = await self._discovered(), self._clock()
                except ProviderAwayError as error:
                    self._failed_at = self._clock()
                    _log.warning("the identity provider cannot be used", error=str(error))
        if self._known is None or self._clock() - self._known_at > _TRUSTED_SECONDS:
            raise ProviderAwayError("what it says of itself cannot be had")
        return self._known

    async def _discovered(self) -> _Endpoints:
        status, text = await _ask("GET", self._issuer.rstrip("/") + _WELL_KNOWN, {}, None)
        try:
            found = _Endpoints.model_validate(json.loads(text))
        except (ValueError, RecursionError):
            raise ProviderAwayError(f"no discovery document, status {status}") from None
        if found.issuer != self._issuer:
            raise ProviderAwayError("its discovery document is of another issuer than BYOK_CONSOLE_OIDC_ISSUER")
        if self._issuer.startswith("https://") and not all(url.startswith("https://") for url in found.urls()):
            raise ProviderAwayError("its discovery document names an address without TLS")
        return found

    async def _post(self, endpoints: _Endpoints, url: str, body: str) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}
        known = ClientAuth(self._client_id, self._secret.get_secret_value(), self._method(endpoints))
        url, headers, body = known.prepare("POST", url, headers, body)
        return await _ask("POST", url, headers, body)

    def _method(self, endpoints: _Endpoints) -> str:
        if not self._secret.get_secret_value():
            return "none"
        takes = endpoints.token_endpoint_auth_methods_supported
        only_in_body = "client_secret_post" in takes and "client_secret_basic" not in takes
        return "client_secret_post" if only_in_body else "client_secret_basic"


async def _ask(method: str, url: str, headers: Mapping[str, str], body: str | None) -> tuple[int, bytes]:
    """Status and bytes of the answer. Raises ProviderAwayError for a status of 500 or more, too."""
    # Not compressed: a small answer could unpack to one that fills the memory.
    said = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
    whole = bytearray()
    try:
        async with (
            asyncio.timeout(_SECONDS),
            httpx.AsyncClient(**client_options(url, proxied=True), timeout=_SECONDS) as client,
            client.stream(method, url, headers=said, content=body) as answer,
        ):
            async for piece in answer.aiter_raw():
                whole += piece
                if len(whole) > _ANSWER_BYTES_MAX:
                    raise ProviderAwayError("its answer is too long")
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise ProviderAwayError(type(error).__name__) from None
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise ProviderAwayError(f"status {answer.status_code}")
    return answer.status_code, bytes(whole)


def _issuer(settings: ConsoleSettings) -> str:
    issuer = settings.console_oidc_issuer or ""
    secure = issuer.startswith("https://")
    if not secure and not (settings.env is Environment.DEVELOPMENT and issuer.startswith("http://")):
        raise SettingsError("BYOK_CONSOLE_OIDC_ISSUER must begin with https:// (http:// in development alone)")
    return issuer


def _secret(settings: ConsoleSettings) -> SecretStr:
    """Empty for a public client."""
    file = settings.console_oidc_client_secret_file
    if file is None:
        return SecretStr("")
    warn_of_readers(file, "the secret of the console's client")
    return SecretStr(read_secret("BYOK_CONSOLE_OIDC_CLIENT_SECRET_FILE", file))
