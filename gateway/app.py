"""The web application: create its routes, its middleware and the components that they use."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog
from graphql import GraphQLError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from contracts.callers import Caller
from contracts.errors import ErrorCode
from contracts.transfer_grants import UPLOADS_PATH, DownloadGrant, UploadGrant
from gateway.connection_registry import ConnectionRegistry, KeepAliveSettings
from gateway.dependencies import Dependencies
from gateway.explorer.routes import DIST, explorer_routes
from gateway.http.error_responses import error_response, request_id_of
from gateway.http.graphql_endpoint import EndpointDependencies, GraphQLEndpoint
from gateway.http.health import Health
from gateway.http.middleware import BodyLimitMiddleware, RequestIdMiddleware
from gateway.http.persisted_queries import PersistedQueries
from gateway.http.trusted_documents import read_manifest
from gateway.lifecycle import Connections, Lifecycle, LifecycleComponents
from gateway.metrics import Metrics
from gateway.security.codec_server import CODEC_PATH, codec_routes
from gateway.security.csrf import OriginCheckMiddleware
from gateway.security.hosts import LoopbackHostMiddleware
from gateway.security.proxy_headers import ProxyHeadersMiddleware
from gateway.security.rate_limits import RateLimiter
from gateway.security.security_headers import SecurityHeadersMiddleware
from gateway.settings import ResponseTracing, Settings
from gateway.transfers.access import find_caller
from gateway.transfers.dependencies import TransferDependencies
from gateway.transfers.routes import transfer_routes
from infrastructure.limits.distributed_quota import create_quota
from infrastructure.limits.quota import Quota
from infrastructure.observability.pseudonyms import Pseudonyms
from infrastructure.redis_policy import RedisPolicy
from infrastructure.settings_validation import Environment
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from infrastructure.storage import open_storage
from schema.errors import internal_error
from schema.possible_types import possible_types
from schema.schema import Schema, build_schema

if TYPE_CHECKING:
    from infrastructure.observability.response_trace import ResponseTraces

MAX_BODY_BYTES = 256 * 1024
"""Size limit of a request's body. Uploads have limits of their own."""
BODY_TIMEOUT_SECONDS = 10.0
"""Time within which the whole body of a request must arrive. Uploads have limits of their own."""

log = structlog.get_logger()


class Gateway(Starlette):
    """The ASGI application of the gateway.

    Attributes:
        streams: the registry of its open websockets and event streams.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        middleware: Sequence[Middleware],
        lifecycle: Lifecycle,
        streams: ConnectionRegistry,
    ) -> None:
        self._lifecycle = lifecycle
        self.streams = streams
        super().__init__(
            routes=routes,
            middleware=middleware,
            exception_handlers={Exception: _handle_unexpected_error, HTTPException: _handle_http_error},
            lifespan=self._run,
        )

    @property
    def connections(self) -> Connections:
        """The open connections, while the application runs."""
        return self._lifecycle.connections

    def _run(self, _app: Starlette) -> AbstractAsyncContextManager[None]:
        return self._lifecycle.running()


def create_app(settings: Settings, dependencies: Dependencies | None = None) -> Gateway:
    """Create the application. Its connections are opened when its ASGI lifespan starts.

    Raises:
        InvalidManifest: the manifest of trusted documents cannot be used.
    """
    dependencies, traces = _with_traces(settings, dependencies or Dependencies())
    is_schema_public, secret = settings.shows_schema(), settings.secret_keys().current
    schema = build_schema(introspection=is_schema_public, suggestions=is_schema_public, traces=traces)
    metrics = Metrics(dependencies.monitoring.registry, schema.documents.schema, dependencies.spans)
    redis = (
        RedisPolicy(settings.redis_url, instrument=traces.instrument_redis if traces else None)
        if settings.redis_url
        else None
    )
    rate_limiter, quota = RateLimiter(settings.rate_limit_values(), secret), create_quota(redis, secret)
    trusted = read_manifest(settings.trusted_documents, schema.documents) if settings.trusted_documents else None
    create_persisted_queries = partial(
        PersistedQueries,
        schema.documents,
        trusted=trusted,
        require_trusted=settings.require_trusted_documents,
    )
    streams = ConnectionRegistry()
    dependencies.monitoring.add_stop_signal(lambda: streams.is_stopping)
    lifecycle = Lifecycle(
        settings,
        dependencies,
        LifecycleComponents(
            create_persisted_queries=create_persisted_queries,
            metrics=metrics,
            redis=redis,
            rate_limiter=rate_limiter,
            quota=quota,
            streams=streams,
            traces=traces,
        ),
    )
    endpoint = GraphQLEndpoint(
        EndpointDependencies(
            schema=schema,
            connections=lambda: lifecycle.connections,
            streams=streams,
            keep_alive=KeepAliveSettings(
                settings.ping_interval_seconds, settings.pong_timeout_seconds, settings.write_timeout_seconds
            ),
            socket_limits=settings.socket_limits(),
            rate_limiter=rate_limiter,
            quota=quota,
            metrics=metrics,
            allowed_origins=settings.allowed_origins,
            public_url=settings.public_url,
        )
    )
    health = Health(streams, lambda: lifecycle.connections.temporal)
    routes = [
        *(explorer_routes(DIST) if settings.shows_graphiql() else ()),
        *codec_routes(
            settings.codec_key_ring(),
            settings.codec_readers,
            settings.codec_origins,
            lambda: lifecycle.connections.backend.auth,
        ),
        *_transfer_routes(settings, lifecycle, quota),
        Route("/graphql", endpoint, methods=["GET", "POST"]),
        WebSocketRoute("/graphql", endpoint),
        *(_schema_routes(schema) if is_schema_public else ()),
        Route("/healthz", health.alive),
        Route("/readyz", health.ready),
    ]
    return Gateway(routes, _middleware(settings, dependencies, metrics, routes), lifecycle, streams)


def _with_traces(settings: Settings, dependencies: Dependencies) -> tuple[Dependencies, ResponseTraces | None]:
    """Return the dependencies and the response traces; None if responses have no traces.

    Response traces are derived from spans, so the returned dependencies then have spans.
    """
    tracing = settings.response_traces()
    if tracing is ResponseTracing.NEVER:
        return dependencies, None
    from infrastructure.observability.response_trace import ResponseTraces
    from infrastructure.observability.spans import Spans  # imported only if used: it loads OpenTelemetry

    spans = dependencies.spans or Spans("gateway", None)
    traces = ResponseTraces(spans, settings.operation_url, is_always_on=tracing is ResponseTracing.ALWAYS)
    return replace(dependencies, spans=spans), traces


def _middleware(
    settings: Settings, dependencies: Dependencies, metrics: Metrics, routes: Sequence[BaseRoute]
) -> list[Middleware]:
    pseudonyms = Pseudonyms(settings.secret_keys().current)
    return [
        *([Middleware(dependencies.spans.trace_requests, routes)] if dependencies.spans else ()),
        Middleware(
            ProxyHeadersMiddleware,
            trusted=settings.trusted_proxies,
            public_url=settings.public_url,
            warns=settings.environment is Environment.PRODUCTION,
        ),
        Middleware(RequestIdMiddleware, pseudonyms=pseudonyms, count_refusals=metrics.count_refusals),
        Middleware(SecurityHeadersMiddleware),
        *([] if settings.public_url else [Middleware(LoopbackHostMiddleware)]),
        Middleware(
            OriginCheckMiddleware,
            allowed=settings.allowed_origins,
            protected_path="/graphql",
            exempt_prefix=f"{CODEC_PATH}/",
        ),
        Middleware(
            BodyLimitMiddleware,
            max_bytes=MAX_BODY_BYTES,
            timeout_seconds=BODY_TIMEOUT_SECONDS,
            exempt_prefix=f"{UPLOADS_PATH}/",
        ),
    ]


def _transfer_routes(settings: Settings, lifecycle: Lifecycle, quota: Quota) -> list[Route]:
    async def find_current_caller(request: Request, grant: UploadGrant | DownloadGrant) -> Caller:
        return await find_caller(lifecycle.connections.backend.tenants, request, grant)

    signer = TransferTokenSigner(settings.service_keys("files"))
    dependencies = TransferDependencies(open_storage(settings.storage()), signer, find_current_caller, quota)
    return transfer_routes(dependencies, lambda _request: lifecycle.connections.backend.files)


def _schema_routes(schema: Schema) -> list[Route]:
    sdl, possible = schema.as_str() + "\n", possible_types(schema.documents.schema)

    async def get_schema(_request: Request) -> Response:
        return PlainTextResponse(sdl)

    async def get_possible_types(_request: Request) -> Response:
        return JSONResponse(possible)

    return [Route("/graphql/schema", get_schema), Route("/graphql/possible-types", get_possible_types)]


async def _handle_unexpected_error(request: Request, error: Exception) -> Response:
    """Log an unexpected error and return a response with status 500 that hides its details."""
    request_id = request_id_of(request)
    log.error("request_failed", request_id=request_id, path=_loggable_path(request), exc_info=error)
    return error_response(internal_error(request_id), 500, request_id)


async def _handle_http_error(request: Request, error: Exception) -> Response:
    """Return the response to a request for an unknown path or with a method that its route does not support."""
    if not isinstance(error, HTTPException):  # never: Starlette calls this function for HTTPException only
        raise error
    code = ErrorCode.NOT_FOUND if error.status_code == 404 else ErrorCode.BAD_USER_INPUT
    graphql_error = GraphQLError(error.detail, extensions={"code": code.value})
    response = error_response(graphql_error, error.status_code, request_id_of(request))
    response.headers.update(error.headers or {})
    return response


def _loggable_path(request: Request) -> str:
    """Return the path with its parameters replaced by their names, because a parameter may be a secret token."""
    path = request.url.path
    for name, value in request.path_params.items():
        path = path.replace(str(value), f"{{{name}}}")
    return path
