"""The HTTP server of a worker process, with the endpoints of its domains and ``/healthz``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contracts.errors import to_record
from infrastructure.signing.service_tokens import KEEP_ALIVE_SECONDS
from worker.error_classification import classify

if TYPE_CHECKING:
    from infrastructure.observability.spans import Spans

log = structlog.get_logger(__name__)


def services_app(routes: Sequence[Route], spans: Spans | None = None) -> Starlette:
    """Return the application. An unexpected error of an endpoint is logged; the response is an empty 500, or an
    ErrorRecord if an external system is unavailable.
    """
    return Starlette(
        routes=[*routes, Route("/healthz", _healthz, methods=["GET"])],
        middleware=[Middleware(spans.trace_requests, routes)] if spans else [],
        exception_handlers={Exception: _handle_unexpected_error},
    )


async def serve_services(app: Starlette, *, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve the application until ``stop`` is set."""
    config = Config()
    config.bind = [f"{host}:{port}"]
    config.graceful_timeout = 5
    # Longer than the gateway keeps an idle connection, so that it never sends a request on a connection being closed.
    config.keep_alive_timeout = 4 * KEEP_ALIVE_SECONDS
    config.accesslog = None
    config.loglevel = "WARNING"
    await serve(app, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _handle_unexpected_error(request: Request, error: Exception) -> Response:
    """Return an ErrorRecord if an external system is unavailable, so that the caller may retry; else an empty 500."""
    context = getattr(request.state, "log_context", {})
    log.error("endpoint_failed", path=request.url.path, exc_info=error, **context)
    final_error = classify(error).final_error
    if final_error is None:
        return Response(status_code=500)
    return Response(to_record(final_error).model_dump_json(), final_error.http_status, media_type="application/json")
