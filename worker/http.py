"""The HTTP host of a process: its domains' endpoints and ``/healthz``, served until it is asked to stop."""

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
    """Trouble in an endpoint is logged whole, and answered with an empty 500, or with an ErrorRecord where a part is
    away."""
    return Starlette(
        routes=[*routes, Route("/healthz", _healthz, methods=["GET"])],
        middleware=[Middleware(spans.trace_requests, routes)] if spans else [],
        exception_handlers={Exception: _trouble},
    )


async def serve_services(app: Starlette, *, host: str, port: int, stop: asyncio.Event) -> None:
    config = Config()
    config.bind = [f"{host}:{port}"]
    config.graceful_timeout = 5
    # Longer than the gateway keeps an idle connection: it must not send a request on one that is being closed here.
    config.keep_alive_timeout = 4 * KEEP_ALIVE_SECONDS
    config.accesslog = None
    config.loglevel = "WARNING"
    await serve(app, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _trouble(request: Request, error: Exception) -> Response:
    """With a part that is away the client is told so, and may try again; all else is nobody's business."""
    known = getattr(request.state, "about", {})
    log.error("an endpoint ran into trouble", path=request.url.path, exc_info=error, **known)
    answer = classify(error).answer
    if answer is None:
        return Response(status_code=500)
    return Response(to_record(answer).model_dump_json(), answer.http_status, media_type="application/json")
