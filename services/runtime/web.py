"""What every service answers over HTTP besides its own API: health, readiness, metrics; and limits on requests."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.to_thread
import prometheus_client
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry

from schemas.metrics import HTTP_REQUEST
from services.runtime.api_page import add_api_page
from services.runtime.connections import ConnectionBounds, bounded_protocol
from services.runtime.metrics import histogram
from services.runtime.problems import install_problem_handlers
from services.runtime.request_bodies import BodyBounds, RequestBodies
from services.runtime.request_times import RequestTimes
from services.runtime.request_traces import RequestTraces
from services.runtime.settings import HttpSettings
from services.runtime.spans import flush_spans

ReadinessCheck = Callable[[], str | None]
"""Says what is not ready, in one sentence without secrets; None when all is well."""

_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SCRAPES_AT_ONCE = 4
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_app(
    *,
    title: str,
    description: str,
    metrics: CollectorRegistry,
    checks: Mapping[str, ReadinessCheck],
    bodies: BodyBounds,
    impaired: Mapping[str, ReadinessCheck] | None = None,
    **options: Any,
) -> FastAPI:
    """A FastAPI application with problem+json errors, bounds on bodies, /docs, /healthz, /readyz and /metrics.

    What ``impaired`` finds is told by /readyz, too, but does not make the service unready: others are no better off.
    Its requests are timed in ``metrics``, and each belongs to a trace, which the answer names. What lies under /v1/
    needs a token, which ``app.state.tokens`` checks.
    """
    app = FastAPI(
        title=title,
        description=description,
        # FastAPI's own would load script from elsewhere (services/runtime/api_page.py).
        docs_url=None,
        redoc_url=None,
        # A redirect to the path without its slash repeats the whole URL, and with it a key that somebody put there.
        redirect_slashes=False,
        # Spans are ours (services/runtime/spans.py): the framework's own would tell what callers put into a URL.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        **options,
    )
    # Threads of their own: those of requests may all wait for what the metrics tell of.
    looked_at = anyio.CapacityLimiter(_SCRAPES_AT_ONCE)
    app.add_middleware(RequestBodies, bounds=bodies)
    app.add_middleware(RequestTimes, seconds=histogram(HTTP_REQUEST, _REQUEST_SECONDS, metrics))
    app.add_middleware(RequestTraces)
    install_problem_handlers(app)
    add_api_page(app)

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", tags=["operations"], summary="The process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", tags=["operations"], summary="The service can do its work; 503 says what is missing")
    def readyz() -> JSONResponse:
        missing, also = _found(checks), _found(impaired or {})
        body: dict[str, Any] = {"status": "not_ready", "missing": missing} if missing else {"status": "ready"}
        return JSONResponse(body | ({"impaired": also} if also else {}), 503 if missing else 200)

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", tags=["operations"], summary="Prometheus metrics", response_class=Response)
    async def metrics_page() -> Response:
        page = await anyio.to_thread.run_sync(prometheus_client.generate_latest, metrics, limiter=looked_at)
        return Response(page, media_type=_METRICS_TYPE)

    return app


def _found(checks: Mapping[str, ReadinessCheck]) -> dict[str, str]:
    return {name: problem for name, check in checks.items() if (problem := check()) is not None}


def server(
    app: FastAPI, host: str, port: int, trusted_proxies: str | None, *, bounds: ConnectionBounds
) -> uvicorn.Server:
    """A uvicorn server for ``app``. Its access log is off: URLs may hold what a caller pasted by mistake.

    ``trusted_proxies`` are the addresses or networks, separated by commas, that may say for whom they ask
    (X-Forwarded-For), and whether that was over TLS (X-Forwarded-Proto); None: nobody may.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=bounded_protocol(bounds),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        proxy_headers=trusted_proxies is not None,
        forwarded_allow_ips=trusted_proxies or "",
    )
    running = uvicorn.Server(config)
    app.state.server = running
    return running


def serve(app: FastAPI, settings: HttpSettings, port: int) -> None:
    """Serve on a port until SIGTERM or SIGINT; for a process that does nothing else."""
    # uvicorn stops cleanly and then sends itself the signal again; that must not turn a clean stop into a crash.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    server(app, settings.host, port, settings.trusted_proxies, bounds=ConnectionBounds.of(settings)).run()
    flush_spans()


def is_stopping(app: FastAPI) -> bool:
    """Whether the server of ``app`` was told to end; it first waits for the answers that are under way."""
    running: uvicorn.Server | None = getattr(app.state, "server", None)
    return running is not None and running.should_exit
