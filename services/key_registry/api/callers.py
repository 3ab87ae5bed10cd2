"""Who calls the registry, from where, and how often; and the registry that is called."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, NamedTuple

from fastapi import Depends, Header, Request

from services.domain.permissions import Caller, Origin
from services.key_registry.handlers.registry import Registry
from services.key_registry.rules.refusals import Code
from services.key_registry.settings import RegistrySettings
from services.runtime.rate_limit import RateLimit
from services.runtime.refusals import Refusal
from services.runtime.tokens import Authenticated
from services.runtime.trace_context import current_trace

_PRINTABLE = re.compile(r"^[\x20-\x7e]+$")
_REQUEST_ID, _REQUEST_ID_LENGTH_MAX = "X-Request-ID", 128
_REASON, _REASON_LENGTH_MAX = "X-Reason", 200
_ADDRESSES_KNOWN = 1_000


class CallLimits(NamedTuple):
    """The rates of each caller: of what runners need all the time, such as leases, and of everything else."""

    calls: RateLimit
    leases: RateLimit
    waits: int = 250
    """How many may wait for changes at once."""

    @classmethod
    def of(cls, settings: RegistrySettings) -> CallLimits:
        """As the settings say."""
        return cls(
            calls=RateLimit(settings.rate_limit_per_second, settings.rate_limit_burst),
            leases=RateLimit(settings.lease_rate_limit_per_second, settings.lease_rate_limit_burst),
            waits=settings.change_waits_max,
        )


async def _origin(
    request: Request,
    request_id: Annotated[
        str | None,
        Header(
            alias=_REQUEST_ID,
            max_length=_REQUEST_ID_LENGTH_MAX,
            pattern=_PRINTABLE.pattern,
            description="Noted in the audit log; without it, the id of the trace.",
        ),
    ] = None,
    reason: Annotated[
        str | None,
        Header(
            alias=_REASON,
            max_length=_REASON_LENGTH_MAX,
            pattern=_PRINTABLE.pattern,
            description="Why; noted in the audit log.",
        ),
    ] = None,
) -> Origin:
    return _origin_of(request, request_id, reason)


def read_origin(request: Request) -> Origin | None:
    """The same without the framework; None where a header is not valid, which the framework then tells."""
    request_id, reason = request.headers.get(_REQUEST_ID), request.headers.get(_REASON)
    if not (_is_text(request_id, _REQUEST_ID_LENGTH_MAX) and _is_text(reason, _REASON_LENGTH_MAX)):
        return None
    return _origin_of(request, request_id, reason)


def _is_text(header: str | None, length_max: int) -> bool:
    return header is None or (len(header) <= length_max and _PRINTABLE.fullmatch(header) is not None)


def _origin_of(request: Request, request_id: str | None, reason: str | None) -> Origin:
    trace = current_trace.get()
    # Where no id came, the trace's stands for the request: by it our logs and the caller's are found.
    address = None if request.client is None else _address(request.client.host)
    return Origin(address, request_id or (None if trace is None else trace.trace_id), reason)


@lru_cache(_ADDRESSES_KNOWN)
def _address(host: str) -> str | None:
    # A proxy that is trusted may still pass on anything.
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


async def _registry(request: Request) -> Registry:
    registry: Registry = request.app.state.registry
    return registry


# Asynchronous, like all that requests depend on here: what is not is handed to a thread and back, each for itself, and
# none of it waits for anything.
Here = Annotated[Registry, Depends(_registry)]

_From = Annotated[Origin, Depends(_origin)]


async def _caller(request: Request, caller: Authenticated, origin: _From) -> Caller:
    limits: CallLimits = request.app.state.limits
    limits.calls.admit(caller)
    return replace(caller, origin=origin)


async def _lessee(request: Request, caller: Authenticated, origin: _From) -> Caller:
    limits: CallLimits = request.app.state.limits
    limits.leases.admit(caller)
    return replace(caller, origin=origin)


Who = Annotated[Caller, Depends(_caller)]
"""A parameter of a route: who calls. 429 where that is too often."""
Lessee = Annotated[Caller, Depends(_lessee)]
"""The same for what runners ask: leases, changes and reports of keys have a rate of their own."""


def organization_of(caller: Caller, named: str | None) -> str:
    """The organization a request is about: the token's own, or the one it names where the token is good for all."""
    if named is not None:
        return named
    if caller.is_everywhere:
        raise Refusal(Code.INVALID_REQUEST, "This token is good for every organization: name one.", field="org_id")
    return caller.org_id
