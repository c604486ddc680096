"""The connections of the web process: opened at its start, closed in reverse order at its end."""

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
from gateway.resolver_backend import open_dependencies
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

_POOL = httpx.Limits(max_connections=200, max_keepalive_connections=100, keepalive_expiry=KEEP_ALIVE_SECONDS)
_TIMEOUT = httpx.Timeout(5.0, connect=2.0, pool=2.0)
_TEMPORAL_RETRY = RetryConfig(max_interval_millis=500, max_elapsed_time_millis=3_000)
"""A client that waits gets an error within ten seconds if Temporal does not answer, and can retry by itself."""


@dataclass(frozen=True)
class Connections:
    """Open while the application runs."""

    temporal: Client
    documents: PersistedQueries
    backend: Backend
    sessions: SessionMonitor


@dataclass(frozen=True)
class Parts:
    """What connections are opened with. ``name_documents`` makes the persisted queries of a cache."""

    name_documents: Callable[[Cache], PersistedQueries]
    metrics: Metrics
    redis: RedisPolicy | None
    requests: RateLimiter
    quota: Quota
    streams: ConnectionRegistry
    traces: ResponseTraces | None


class Lifecycle:
    """Opens and closes the connections, and provides them between the two."""

    def __init__(self, settings: Settings, dependencies: Dependencies, parts: Parts) -> None:
        self._settings = settings
        self._dependencies = dependencies
        self._parts = parts
        self._connections: Connections | None = None

    @property
    def connections(self) -> Connections:
        """Raises RuntimeError before the start and after the end."""
        if self._connections is None:
            raise RuntimeError("The application has not been started, or it has ended.")
        return self._connections

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        anyio.get_cancelled_exc_class()  # loads what httpx otherwise loads at the first calls, a fifth of a second
        async with AsyncExitStack() as stack:
            self._connections = await self._open(stack)
            try:
                yield
            finally:
                self._connections = None

    async def _open(self, stack: AsyncExitStack) -> Connections:
        settings, dependencies, parts = self._settings, self._dependencies, self._parts
        if parts.redis is not None:
            await stack.enter_async_context(parts.redis.running())
        cache = self._cache()
        http = await stack.enter_async_context(self._open_http())
        temporal = await self._connect_temporal()
        await ensure_search_attributes(temporal)
        opened = await stack.enter_async_context(
            open_dependencies(settings, temporal, http, cache, dependencies.change_notifier, parts.metrics, parts.redis)
        )
        await stack.enter_async_context(parts.requests.shared(parts.redis))
        await stack.enter_async_context(parts.quota.running())
        await stack.enter_async_context(parts.streams.tended())
        return Connections(temporal, parts.name_documents(cache), opened.backend, opened.sessions)

    def _cache(self) -> Cache:
        redis = self._parts.redis
        cache = self._dependencies.cache or (RedisCache(redis) if redis else MemoryCache())
        if self._parts.traces is None:
            return cache
        from infrastructure.observability.response_trace import TracedCache  # costs memory and time

        return TracedCache(cache)

    @asynccontextmanager
    async def _open_http(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = self._dependencies.services or httpx.AsyncHTTPTransport(limits=_POOL, trust_env=False)
        async with httpx.AsyncClient(transport=transport, timeout=_TIMEOUT, trust_env=False) as http:
            if self._dependencies.spans:
                self._dependencies.spans.instrument_http_client(http)
            yield http

    async def _connect_temporal(self) -> Client:
        settings, dependencies, traces = self._settings, self._dependencies, self._parts.traces
        temporal = await connect(
            address=settings.temporal_address,
            namespace=settings.temporal_namespace,
            keys=settings.keys(),
            interceptors=[
                *([dependencies.spans.temporal_interceptor()] if dependencies.spans else ()),
                *dependencies.interceptors,
                RequestContextInterceptor(),
                self._parts.metrics.timed_temporal(),
                *([traces.temporal_interceptor()] if traces else ()),
            ],
            retry=_TEMPORAL_RETRY,
            runtime=dependencies.runtime,
        )
        checks = {"temporal": temporal_check(temporal)}
        if self._parts.redis is not None:
            checks["redis"] = self._parts.redis.ping
        if dependencies.services is None:
            checks |= {name: http_check(settings.service(name)) for name in SERVICES}
        dependencies.monitoring.add_checks(checks)
        return temporal
