"""Open the connections of the web process (Temporal, Redis, HTTP client) at its start and close them at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import httpx
from temporalio.client import Client
from temporalio.service import RetryConfig

from gateway.connection_registry import ConnectionRegistry
from gateway.dependencies import Dependencies
from gateway.http.persisted_queries import PersistedQueries
from gateway.metrics import Metrics
from gateway.request_context_interceptor import RequestContextInterceptor
from gateway.resolver_backend import BackendResources, open_backend
from gateway.security.rate_limits import RateLimiter
from gateway.sessions.session_monitor import SessionMonitor
from gateway.settings import SERVICES, Settings
from infrastructure.caching.cache import Cache, MemoryCache, RedisCache
from infrastructure.limits.quota import Quota
from infrastructure.observability.monitoring import http_check, temporal_check
from infrastructure.redis_policy import RedisPolicy
from infrastructure.signing.service_tokens import KEEP_ALIVE_SECONDS
from infrastructure.temporal.connection import connect, ensure_search_attributes
from resolvers.context import Backend

if TYPE_CHECKING:
    from infrastructure.observability.response_trace import ResponseTraces

_HTTP_POOL_LIMITS = httpx.Limits(
    max_connections=200, max_keepalive_connections=100, keepalive_expiry=KEEP_ALIVE_SECONDS
)
_HTTP_TIMEOUT = httpx.Timeout(5.0, connect=2.0, pool=2.0)
_TEMPORAL_RETRY = RetryConfig(max_interval_millis=500, max_elapsed_time_millis=3_000)
"""Retries of calls to Temporal. They end early enough for a client to get an error within ten seconds."""


@dataclass(frozen=True)
class Connections:
    """The connections and the objects that use them, which exist while the application runs."""

    temporal: Client
    persisted_queries: PersistedQueries
    backend: Backend
    session_monitor: SessionMonitor


@dataclass(frozen=True)
class LifecycleComponents:
    """The components that exist before the application starts and that the lifecycle runs or passes on.

    ``create_persisted_queries`` creates the persisted queries that use the given cache.
    """

    create_persisted_queries: Callable[[Cache], PersistedQueries]
    metrics: Metrics
    redis: RedisPolicy | None
    rate_limiter: RateLimiter
    quota: Quota
    streams: ConnectionRegistry
    traces: ResponseTraces | None


class Lifecycle:
    """Opens and closes the connections of the application, and provides them while it runs."""

    def __init__(self, settings: Settings, dependencies: Dependencies, components: LifecycleComponents) -> None:
        self._settings = settings
        self._dependencies = dependencies
        self._components = components
        self._connections: Connections | None = None

    @property
    def connections(self) -> Connections:
        """The open connections.

        Raises:
            RuntimeError: the application has not been started, or it has ended.
        """
        if self._connections is None:
            raise RuntimeError("The application has not been started, or it has ended.")
        return self._connections

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the connections open while the block runs."""
        anyio.get_cancelled_exc_class()  # loads modules that would delay the first HTTP call by 0.2 s
        async with AsyncExitStack() as stack:
            self._connections = await self._open(stack)
            try:
                yield
            finally:
                self._connections = None

    async def _open(self, stack: AsyncExitStack) -> Connections:
        components = self._components
        if components.redis is not None:
            await stack.enter_async_context(components.redis.running())
        cache = self._cache()
        http = await stack.enter_async_context(self._open_http())
        temporal = await self._connect_temporal()
        await ensure_search_attributes(temporal)
        opened = await stack.enter_async_context(
            open_backend(
                BackendResources(
                    settings=self._settings,
                    temporal=temporal,
                    http=http,
                    cache=cache,
                    redis=components.redis,
                    change_notifier=self._dependencies.change_notifier,
                    metrics=components.metrics,
                )
            )
        )
        await stack.enter_async_context(components.rate_limiter.shared(components.redis))
        await stack.enter_async_context(components.quota.running())
        await stack.enter_async_context(components.streams.running())
        return Connections(temporal, components.create_persisted_queries(cache), opened.backend, opened.session_monitor)

    def _cache(self) -> Cache:
        redis = self._components.redis
        cache = self._dependencies.cache or (RedisCache(redis) if redis else MemoryCache())
        if self._components.traces is None:
            return cache
        # Imported only if it is used, because it loads OpenTelemetry.
        from infrastructure.observability.response_trace import TracedCache

        return TracedCache(cache)

    @asynccontextmanager
    async def _open_http(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = self._dependencies.services or httpx.AsyncHTTPTransport(limits=_HTTP_POOL_LIMITS, trust_env=False)
        async with httpx.AsyncClient(transport=transport, timeout=_HTTP_TIMEOUT, trust_env=False) as http:
            if self._dependencies.spans:
                self._dependencies.spans.instrument_http_client(http)
            yield http

    async def _connect_temporal(self) -> Client:
        settings, dependencies, traces = self._settings, self._dependencies, self._components.traces
        temporal = await connect(
            address=settings.temporal_address,
            namespace=settings.temporal_namespace,
            keys=settings.codec_key_ring(),
            interceptors=[
                *([dependencies.spans.temporal_interceptor()] if dependencies.spans else ()),
                *dependencies.interceptors,
                RequestContextInterceptor(),
                self._components.metrics.temporal_interceptor(),
                *([traces.temporal_interceptor()] if traces else ()),
            ],
            retry=_TEMPORAL_RETRY,
            runtime=dependencies.runtime,
        )
        checks = {"temporal": temporal_check(temporal)}
        if self._components.redis is not None:
            checks["redis"] = self._components.redis.ping
        if dependencies.services is None:
            checks |= {name: http_check(settings.service_url(name)) for name in SERVICES}
        dependencies.monitoring.add_checks(checks)
        return temporal
