"""What the resolvers work with, put together once a process and closed in the order in which it was opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import NamedTuple

import httpx
from temporalio.client import Client

from contracts.auth import SESSION_CACHE_TTL_SECONDS
from gateway.metrics import Metrics
from gateway.sessions.session_cache import SessionCache
from gateway.sessions.session_monitor import SessionMonitor
from gateway.settings import SERVICES, Settings
from infrastructure.caching.cache import Cache
from infrastructure.caching.tagged_cache import TaggedCache
from infrastructure.change_notifications import CONNECTION_LOST, ChangeNotifier, LocalNotifier, RedisNotifier
from infrastructure.circuit_breaker import CircuitBreaker
from infrastructure.limits.rate_limit import MemoryTokenBuckets, RedisTokenBuckets, TokenBucketStore
from infrastructure.observability.pseudonyms import Pseudonyms
from infrastructure.passwords import Passwords
from infrastructure.redis_policy import RedisPolicy
from infrastructure.signing.service_tokens import ServiceTokenSigner
from resolvers.clients.auth import AuthClient
from resolvers.clients.base import ServiceClient
from resolvers.clients.files import FilesClient
from resolvers.clients.operations import OperationsClient
from resolvers.clients.tenants import TenantsClient
from resolvers.clients.users import UsersClient
from resolvers.clients.workspaces import WorkspacesClient
from resolvers.context import Backend
from resolvers.credential_verification import CredentialVerifier
from resolvers.dashboard import DashboardDependencies
from resolvers.encryption import Encryptor
from resolvers.following.hub import ProgressHub
from resolvers.following.long_poll_quota import LongPollQuota
from resolvers.following.observer import OperationObserver
from resolvers.following.watcher import Mode
from resolvers.login_quota import LoginQuota
from resolvers.operations.cursors import Cursors
from resolvers.operations.describe_quota import DescribeQuota
from resolvers.operations.onboarding_requests import OnboardingRequestFactory
from resolvers.operations.operations import Operations
from resolvers.operations.records import OperationRecords
from resolvers.operations.start_requests import StartRequestFactory
from resolvers.operations.step_durations import Durations
from resolvers.sign_in_throttle import SignInThrottle
from resolvers.user_cache import CachedUsersClient


class OpenedBackend(NamedTuple):
    """What resolvers use, and the watch of sessions, which only transports use."""

    backend: Backend
    sessions: SessionMonitor


@asynccontextmanager
async def open_dependencies(
    settings: Settings,
    temporal: Client,
    http: httpx.AsyncClient,
    cache: Cache,
    local_notifier: ChangeNotifier | None,
    metrics: Metrics,
    redis: RedisPolicy | None,
) -> AsyncIterator[OpenedBackend]:
    """Open while the block runs. ``http`` carries the calls of the services; ``local_notifier`` carries the change
    notifications of services in this process.
    """
    keys = settings.secret_keys()

    breakers = {service: CircuitBreaker(service) for service in SERVICES}

    def calls(service: str) -> ServiceClient:
        signer = ServiceTokenSigner(service, settings.service_keys(service))
        return ServiceClient(service, settings.service(service), http, signer, breakers[service])

    auth, users, tenants = AuthClient(calls("auth")), UsersClient(calls("users")), TenantsClient(calls("tenants"))
    files, workspaces = FilesClient(calls("files")), WorkspacesClient(calls("workspaces"))
    cursors, orders, durations = Cursors(keys), StartRequestFactory(keys), Durations()
    async with AsyncExitStack() as stack:
        change_notifier, token_buckets = await stack.enter_async_context(_shared(redis, local_notifier))
        throttle = SignInThrottle(token_buckets, keys, settings.sign_in_limits())
        await stack.enter_async_context(durations.shared(cache))
        tagged_cache = await stack.enter_async_context(TaggedCache(cache, encryption=Encryptor(keys, "copies")))
        observer = OperationObserver(tagged_cache, durations)
        budget = LongPollQuota(max_long_polls=settings.max_long_polls)
        hub = await stack.enter_async_context(
            ProgressHub(
                temporal,
                budget=budget,
                change_notifier=change_notifier,
                observe=observer.see,
                observe_delay=metrics.lag.observe,
            )
        )
        describe_quota = DescribeQuota()
        records = OperationRecords(OperationsClient(calls("operations")), hub, cursors, observer.closed)
        await stack.enter_async_context(records.running())
        passwords = stack.enter_context(closing(Passwords()))
        is_lost = stack.enter_context(change_notifier.subscribe(CONNECTION_LOST))
        hot_seconds = SESSION_CACHE_TTL_SECONDS if redis else 0.0
        hot_sessions = SessionCache(cache, auth, is_lost, hot_seconds=hot_seconds)
        sessions = SessionMonitor(hot_sessions, change_notifier, check_seconds=settings.session_check_interval_seconds)
        await stack.enter_async_context(sessions)
        metrics.gauge(
            "gateway_breaker_open",
            "1 while a service is left alone.",
            "service",
            lambda: {service: float(breaker.is_open) for service, breaker in breakers.items()},
        )
        metrics.gauge(
            "gateway_hub_watchers",
            "Operations that are followed here: with a long-poll, with change notifications, or at an interval.",
            "mode",
            lambda: {mode.value.lower(): float(hub.modes[mode]) for mode in Mode},
        )
        metrics.counter(
            "gateway_cache_reads",
            "Reads of the cache of all processes, by what was looked for and whether it was there.",
            "result",
            lambda: (
                {"copy_hit": tagged_cache.hits, "copy_miss": tagged_cache.misses}
                | {"session_hit": hot_sessions.hits, "session_miss": hot_sessions.misses}
            ),
        )
        operations = await stack.enter_async_context(
            Operations(temporal, hub, records, change_notifier, cursors, describe_quota)
        )
        login_quota = await stack.enter_async_context(LoginQuota(operations))
        backend = Backend(
            operations=operations,
            records=records,
            orders=orders,
            onboarding_requests=OnboardingRequestFactory(orders, passwords, keys),
            cursors=cursors,
            credentials=CredentialVerifier(auth, throttle, keys.current),
            throttle=throttle,
            login_quota=login_quota,
            auth=auth,
            users=CachedUsersClient(users, tagged_cache),
            tenants=tenants,
            files=files,
            workspaces=workspaces,
            dashboards=DashboardDependencies(tagged_cache, records, users, tenants, files),
            sessions=sessions,
            durations=durations,
            pseudonyms=Pseudonyms(keys.current),
            app_url=settings.product_url(),
        )
        yield OpenedBackend(backend, sessions)


@asynccontextmanager
async def _shared(
    redis: RedisPolicy | None, local_notifier: ChangeNotifier | None
) -> AsyncIterator[tuple[ChangeNotifier, TokenBucketStore]]:
    """What replicas share where there is a Redis, and each has for itself where there is none."""
    if redis is None:
        yield local_notifier or LocalNotifier(has_publishers=False), MemoryTokenBuckets()
        return
    shared = RedisNotifier(redis)
    async with shared.listening():
        yield shared, RedisTokenBuckets(redis)
