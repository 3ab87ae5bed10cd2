"""Routes that are asked all the time, which a request that is as it should be reaches straight."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, get_args, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from services.domain.permissions import Caller, Origin
from services.key_registry.api.callers import read_origin
from services.runtime.problems import says_json


class StraightRoute(APIRoute):
    """A route of a function of ``request``, ``who`` and ``body``, which answers a response.

    To find out what such a function depends on, the framework takes more of the processor than all else that is done
    for the request here. So one that is as it should be is handed to the function at once; every other one goes the
    framework's way, is refused there, and told why. The description of the API knows of no difference.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        by_framework = super().get_route_handler()
        types = get_type_hints(self.endpoint, include_extras=True)
        body_model: type[BaseModel] = types["body"]
        admitted: Callable[[Request, Caller, Origin], Awaitable[Caller]] = get_args(types["who"])[1].dependency

        async def answer(request: Request) -> Response:
            asked = await _read(request, body_model)
            if asked is None:
                return await by_framework(request)
            who = await admitted(request, asked.caller, asked.origin)
            response: Response = await self.endpoint(request=request, who=who, body=asked.body)
            return response

        return answer


class _Asked(NamedTuple):
    caller: Caller
    origin: Origin
    body: BaseModel


async def _read(request: Request, body_model: type[BaseModel]) -> _Asked | None:
    """What a request asks; None where anything is not as it should be."""
    caller: Caller | None = getattr(request.state, "caller", None)
    origin = read_origin(request)
    if caller is None or origin is None or not says_json(request):
        return None
    try:
        # Read as the framework does, so that neither takes what the other would not.
        return _Asked(caller, origin, body_model.model_validate(await request.json()))
    except (ValueError, RecursionError):
        return None
