"""The web process put together: what it opens, what it serves and in which order it closes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
import httpx
import structlog
from aiocache.base import BaseCache
from graphql import GraphQLError
from redis.asyncio import BlockingConnectionPool
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from temporalio.client import Interceptor
from temporalio.runtime import Runtime
from temporalio.service import RetryConfig

from contracts.cache import open_cache
from contracts.calls import KEEP_ALIVE_SECONDS, Caller
from contracts.environment import Environment
from contracts.errors import ErrorCode
from contracts.storage import open_storage
from contracts.temporal import connect, ensure_search_attributes
from contracts.transfers import UPLOADS_PATH, DownloadGrant, TransferSigner, UploadGrant
from gateway.backend import open_backend
from gateway.browsers import KnownOrigins, SafeAnswers
from gateway.codec import CODEC_PATH, codec_routes
from gateway.counting import CountedCopies, CountedRedis, CountedServices, CountedTemporal
from gateway.documents import NamedDocuments
from gateway.explorer.routes import DIST, explorer_routes
from gateway.graphql import GraphQLEndpoint
from gateway.health import alive, ready
from gateway.http.error_responses import error_response, request_id_of
from gateway.http.transfer_access import find_caller
from gateway.http.transfer_dependencies import TransferDependencies
from gateway.http.transfers import transfer_routes
from gateway.metrics import Metrics
from gateway.middleware import BodyLimit, RequestIds
from gateway.on_behalf import NamedRequests
from gateway.open_streams import OpenStreams, Patience
from gateway.rate_limits import RateLimiter
from gateway.security.hosts import LoopbackHostMiddleware
from gateway.security.proxy_headers import ProxyHeadersMiddleware
from gateway.sessions import CACHE_SECONDS
from gateway.settings import SERVICES, Settings
from gateway.trusted_documents import read_manifest
from infrastructure.change_notifications import Wakeups
from infrastructure.distributed_quota import create_quota
from infrastructure.monitoring import Monitoring, http_answers, redis_answers, temporal_answers
from infrastructure.pseudonyms import Pseudonyms
from infrastructure.quota import Quota
from resolvers.clients.files import FilesClient
from resolvers.context import Backend
from schema.build import build_schema
from schema.errors import internal_error
from schema.possible_types import possible_types

if TYPE_CHECKING:
    from contracts.spans import Spans

MOST_BYTES = 256 * 1024
BODY_SECONDS = 10.0
"""Of a request's body: how much, and how long it may take to come. Uploads have bounds of their own."""

_POOL = httpx.Limits(max_connections=200, max_keepalive_connections=100, keepalive_expiry=KEEP_ALIVE_SECONDS)
_TIMEOUT = httpx.Timeout(5.0, connect=2.0, pool=2.0)
_IMPATIENT = RetryConfig(max_interval_millis=500, max_elapsed_time_millis=3_000)
"""A client that waits is told within ten seconds that Temporal does not answer, and can try again by itself."""

log = structlog.get_logger()


def create_app(
    settings: Settings,
    *,
    services: httpx.AsyncBaseTransport | None = None,
    cache: BaseCache | None = None,
    wakeups: Wakeups | None = None,
    interceptors: Sequence[Interceptor] = (),
    monitoring: Monitoring | None = None,
    runtime: Runtime | None = None,
    spans: Spans | None = None,
) -> Starlette:
    """The application. ``services`` carries the calls of the services, over the network where it is None.

    A ``cache`` that is handed in is shared with others and left open. ``wakeups`` are those that services in this same
    process tell. ``interceptors`` see the calls of Temporal. ``monitoring`` gets what is counted and what can be away;
    ``runtime`` is the one of Temporal's SDK. ``spans``: where what is done is traced.
    """
    monitoring = monitoring or Monitoring()
    schema = build_schema(
        introspection=settings.shows_schema(),
        suggestions=settings.shows_schema(),
        link_of=settings.link_of if settings.traces_answers() else None,
    )
    metrics = Metrics(monitoring.registry, schema.documents.schema, spans)
    sdl, possible = schema.as_str() + "\n", possible_types(schema.documents.schema)
    streams = OpenStreams()
    secret = settings.secret_keys().current
    requests, quota = RateLimiter(settings.rates(), secret), create_quota(settings.redis_url, secret)
    endpoint = GraphQLEndpoint(
        schema,
        streams,
        Patience(settings.ping_seconds, settings.silence_seconds, settings.stall_seconds),
        limits=settings.socket_limits(),
        requests=requests,
        quota=quota,
        metrics=metrics,
        allowed_origins=settings.allowed_origins,
        public_url=settings.public_url,
    )
    trusted = read_manifest(settings.trusted_documents, schema.documents) if settings.trusted_documents else None
    keys = settings.service_keys("files")
    storage, signer = open_storage(settings.storage()), TransferSigner(keys)

    async def show_schema(_request: Request) -> Response:
        return PlainTextResponse(sdl)

    async def show_possible_types(_request: Request) -> Response:
        return JSONResponse(possible)

    about_schema = (Route("/graphql/schema", show_schema), Route("/graphql/possible-types", show_possible_types))

    routes = [
        *(explorer_routes(DIST) if settings.shows_graphiql() else ()),
        *codec_routes(settings.keys(), settings.codec_readers, settings.codec_origins),
        *transfer_routes(TransferDependencies(storage, signer, _find_caller, quota), _reservations),
        Route("/graphql", endpoint, methods=["GET", "POST"]),
        WebSocketRoute("/graphql", endpoint),
        *(about_schema if settings.shows_schema() else ()),
        Route("/healthz", alive),
        Route("/readyz", ready),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            *([Middleware(spans.requests, routes)] if spans else ()),
            Middleware(
                ProxyHeadersMiddleware,
                trusted=settings.trusted_proxies,
                public_url=settings.public_url,
                warns=settings.environment is Environment.PRODUCTION,
            ),
            Middleware(RequestIds, pseudonyms=Pseudonyms(secret), count_refusals=metrics.count_refusals),
            Middleware(SafeAnswers),
            *([] if settings.public_url else [Middleware(LoopbackHostMiddleware)]),
            Middleware(KnownOrigins, allowed=settings.allowed_origins, reads="/graphql", apart=f"{CODEC_PATH}/"),
            Middleware(BodyLimit, most_bytes=MOST_BYTES, seconds=BODY_SECONDS, beyond=f"{UPLOADS_PATH}/"),
        ],
        exception_handlers={Exception: _told_nothing, HTTPException: _told_in_words},
        lifespan=_lifespan(
            settings,
            services,
            cache,
            wakeups,
            [
                *interceptors,
                NamedRequests(),
                metrics.timed_temporal(),
                *([CountedTemporal()] if settings.traces_answers() else ()),
            ],
            requests,
            quota,
            monitoring,
            metrics,
            runtime,
            spans,
        ),
    )
    app.state.name_documents = partial(
        NamedDocuments, schema.documents, trusted=trusted, only_trusted=settings.only_trusted_documents
    )
    app.state.streams = streams
    monitoring.is_stopping = lambda: streams.stopping
    return app


def _lifespan(
    settings: Settings,
    services: httpx.AsyncBaseTransport | None,
    shared_cache: BaseCache | None,
    wakeups: Wakeups | None,
    interceptors: Sequence[Interceptor],
    requests: RateLimiter,
    quota: Quota,
    monitoring: Monitoring,
    metrics: Metrics,
    runtime: Runtime | None,
    spans: Spans | None,
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        anyio.get_cancelled_exc_class()  # loads what httpx otherwise loads for the first crowd, a fifth of a second
        pool = CountedRedis if settings.traces_answers() else BlockingConnectionPool
        async with AsyncExitStack() as stack:
            cache: BaseCache = shared_cache or await stack.enter_async_context(
                open_cache(settings.redis_url, seconds=CACHE_SECONDS, pool=pool)
            )
            carrier = services or httpx.AsyncHTTPTransport(limits=_POOL, trust_env=False)
            if settings.traces_answers():
                carrier = CountedServices(carrier)
                cache.plugins = [CountedCopies()]
            http = await stack.enter_async_context(
                httpx.AsyncClient(transport=carrier, timeout=_TIMEOUT, trust_env=False)
            )
            if spans:
                spans.calls(http)
            temporal = await connect(
                address=settings.temporal_address,
                namespace=settings.temporal_namespace,
                keys=settings.keys(),
                interceptors=[*([spans.temporal()] if spans else ()), *interceptors],
                retry=_IMPATIENT,
                runtime=runtime,
            )
            monitoring.checks["temporal"] = temporal_answers(temporal)
            if settings.redis_url is not None:
                monitoring.checks["redis"] = redis_answers(settings.redis_url)
            if services is None:
                monitoring.checks |= {name: http_answers(settings.service(name)) for name in SERVICES}
            await ensure_search_attributes(temporal)
            app.state.temporal = temporal
            app.state.documents = app.state.name_documents(cache)
            app.state.backend = await stack.enter_async_context(
                open_backend(settings, temporal, http, cache, wakeups, metrics, pool)
            )
            await stack.enter_async_context(requests.shared(settings.redis_url))
            await stack.enter_async_context(quota.running())
            streams: OpenStreams = app.state.streams
            await stack.enter_async_context(streams.tended())
            yield

    return lifespan


def _reservations(request: Request) -> FilesClient:
    backend: Backend = request.app.state.backend
    return backend.files


async def _find_caller(request: Request, grant: UploadGrant | DownloadGrant) -> Caller:
    backend: Backend = request.app.state.backend
    return await find_caller(backend.tenants, request, grant)


async def _told_nothing(request: Request, error: Exception) -> Response:
    request_id = request_id_of(request)
    log.error("a request failed", request_id=request_id, path=_shown_path(request), exc_info=error)
    return error_response(internal_error(request_id), 500, request_id)


async def _told_in_words(request: Request, error: Exception) -> Response:
    """There is nothing at that address, or not for that method."""
    assert isinstance(error, HTTPException)
    code = ErrorCode.NOT_FOUND if error.status_code == 404 else ErrorCode.BAD_USER_INPUT
    told = GraphQLError(error.detail, extensions={"code": code.value})
    response = error_response(told, error.status_code, request_id_of(request))
    response.headers.update(error.headers or {})
    return response


def _shown_path(request: Request) -> str:
    """Without what stands in it for a parameter: that may be a token, which opens what it stands for."""
    path = request.url.path
    for name, value in request.path_params.items():
        path = path.replace(str(value), f"{{{name}}}")
    return path
