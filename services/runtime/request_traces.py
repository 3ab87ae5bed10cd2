"""Which trace a request belongs to: taken up from whoever asks, else begun; on every line logged, and in the answer."""

from __future__ import annotations

import re
from contextlib import nullcontext

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from services.runtime.connections import ALWAYS_SERVED
from services.runtime.request_times import method, template
from services.runtime.spans import Span, SpanKind, span
from services.runtime.trace_context import TRACEPARENT, current_trace, new_trace, read_traceparent

_REQUEST_ID = "x-request-id"
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,128}")


class RequestTraces:
    """ASGI middleware around all others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on. What is noted here ends with the task that the server makes for each request, so that
        whoever answers a bug, further out, finds it, too."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        came, request_id = read_traceparent(headers.get(TRACEPARENT)), headers.get(_REQUEST_ID, "")
        # Whoever looks after the service asks all the time.
        recorded = scope["path"] not in ALWAYS_SERVED
        with span(method(scope), SpanKind.SERVER, parent=came) if recorded else nullcontext(Span()) as part:
            trace = part.context or (came.child() if came else new_trace())
            current_trace.set(trace)
            named = {"request_id": request_id} if _PRINTABLE.fullmatch(request_id) else {}
            bind_contextvars(trace_id=trace.trace_id, span_id=trace.span_id, **named)

            async def telling(message: Message) -> None:
                if message["type"] == "http.response.start":
                    MutableHeaders(scope=message)[TRACEPARENT] = str(trace)
                    part.says({"http.response.status_code": message["status"]})
                await send(message)

            try:
                await self._app(scope, receive, telling)
            finally:
                # The route as it is declared: in the path there may be a key that somebody put there.
                asked, route = method(scope), template(scope)
                part.says({"http.request.method": asked, "http.route": route})
                part.is_called(f"{asked} {route}")
