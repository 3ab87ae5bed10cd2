"""How long requests take, by method, template of the route and class of status; what a caller sent is never a label."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.runtime.metrics import Histogram

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_OTHER = "other"


class RequestTimes:
    """ASGI middleware around all others, so that what they refuse is timed, too."""

    def __init__(self, app: ASGIApp, seconds: Histogram) -> None:
        """``seconds`` has the labels method, route and status, in this order."""
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, and note how long it took until the whole answer was handed on; a bug's is 5xx."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            labels = (method(scope), template(scope), f"{status // 100}xx")
            self._seconds.labels(*labels).observe(time.perf_counter() - began)


def method(scope: Scope) -> str:
    """GET, POST and so on; "other" for what somebody made up."""
    return scope["method"] if scope["method"] in _METHODS else _OTHER


def template(scope: Scope) -> str:
    """The path as the application declares it, such as ``/v1/plans/{org_id}``; "other" where no route took it.

    Routing notes the route in the scope, and where an application is mounted its place, which has no parameters.
    """
    template: str = scope.get("root_path", "") + getattr(scope.get("route"), "path", "")
    return template or _OTHER
