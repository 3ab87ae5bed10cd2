"""Signing in at the identity provider: the way there, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping

import jwt
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.console.sign_in.attempts import Attempt, forget_attempt
from services.console.sign_in.pages import PATH, sign_in_again, signed_in
from services.console.sign_in.provider import ProviderAwayError, ProviderRefusedError
from services.console.sign_in.way_back import HOME, way_back
from services.console.site import Oidc, site_of
from services.console.visit import SEE_OTHER
from services.runtime.claims import ClaimsRefusedError
from services.runtime.logs import logger
from services.runtime.tokens import TokenRefusedError

_log = logger(__name__)

_AWAY = "Your identity provider does not answer. Try again in a minute."
_UNKNOWN = "This attempt to sign in is over, or was begun in another browser. Sign in again."
_REFUSED: Mapping[str, str] = {
    "access_denied": "You did not let your identity provider tell who you are, or it does not let you in here.",
    "invalid_grant": "What your identity provider sent was too old, or was used before. Sign in again.",
    "login_required": _UNKNOWN,
    "invalid_client": "Your identity provider does not know this console; an operator has to look at its client.",
    "wrong_issuer": "Another identity provider sent you here than the one that was asked. Sign in again.",
    "id_token_nonce": "What your identity provider said was about another attempt to sign in. Sign in again.",
    "id_token_InvalidAudienceError": "What your identity provider said was for another application than this one.",
}
_NOT_LET_IN = "Your identity provider did not let you in. Try again; if it happens again, tell an operator."
_CALLBACK = f"{PATH}/callback"


async def start(request: Request) -> Response:
    """Send the browser to the provider."""
    site, attempt = site_of(request), Attempt.new(way_back(request.query_params.get("next", HOME)))
    try:
        where = await _oidc(request).provider.begin(attempt, f"{site.url(request)}{_CALLBACK}")
    except ProviderAwayError:
        return await sign_in_again(request, attempt.wanted, _AWAY, 503)
    answer = RedirectResponse(where, SEE_OTHER)
    _oidc(request).attempts.keep(answer, attempt, request.cookies, secure=site.cookie_secure(request))
    return answer


async def come_back(request: Request) -> Response:
    """What the provider sends the browser back to: a session, or in words why there is none."""
    said = request.query_params
    attempt = _oidc(request).attempts.find(said.get("state", ""), request.cookies)
    if attempt is None:
        return await sign_in_again(request, HOME, _UNKNOWN, 400)
    answer = await _finished(request, attempt)
    forget_attempt(answer, attempt.state, secure=site_of(request).cookie_secure(request))
    return answer


async def _finished(request: Request, attempt: Attempt) -> Response:
    site = site_of(request)
    try:
        callback = f"{site.url(request)}{_CALLBACK}"
        tokens = await _oidc(request).provider.finish(request.query_params, attempt, callback)
        found = await site.look(tokens.token)
    except ProviderAwayError:
        return await sign_in_again(request, attempt.wanted, _AWAY, 503)
    except ProviderRefusedError as refused:
        _log.info("not signed in", code=refused.code[:100])
        return await sign_in_again(request, attempt.wanted, _REFUSED.get(refused.code, _NOT_LET_IN), 403)
    except TokenRefusedError as refused:
        _log.warning("not signed in: the services would refuse the token", error=str(refused))
        return await sign_in_again(request, attempt.wanted, _why(refused.cause), 403)
    return await signed_in(request, tokens.token, found, attempt.wanted, tokens.refresh_token)


def _why(cause: Exception) -> str:
    """Why a token that the provider gave is not good for our services."""
    match cause:
        case ClaimsRefusedError():
            return str(cause)
        case ValidationError() if any("org_id" in error["loc"] for error in cause.errors()):
            return "You belong to no organization here; an administrator can add you to one."
        case jwt.InvalidAudienceError():
            return (
                "Your identity provider's token is for another audience than these services;"
                " an operator compares BYOK_JWT_AUDIENCE with it."
            )
        case _:
            return "Your identity provider's token is none that these services take; an operator finds why in the log."


def _oidc(request: Request) -> Oidc:
    oidc = site_of(request).oidc
    if oidc is None:
        raise HTTPException(404)
    return oidc
