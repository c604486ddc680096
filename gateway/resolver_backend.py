"""Build the backend of the resolvers: service clients, operations, caches, limits and notifications of a process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
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
from resolvers.following.watcher import DeliveryMode
from resolvers.login_quota import LoginQuota
from resolvers.operations.cursors import Cursors
from resolvers.operations.describe_quota import DescribeQuota
from resolvers.operations.lifecycle import OperationLifecycle
from resolvers.operations.onboarding_requests import OnboardingRequestFactory
from resolvers.operations.records import OperationRecords
from resolvers.operations.start_requests import StartRequestFactory
from resolvers.operations.step_durations import StepDurations
from resolvers.sign_in_throttle import SignInThrottle
from resolvers.user_cache import CachedUsersClient


@dataclass(frozen=True)
class BackendResources:
    """The settings and connections that the backend is built from.

    Attributes:
        temporal: the client of the Temporal server.
        http: the HTTP client for calls of the services.
        cache: the cache that all processes share, or that of this process if there is no Redis.
        redis: the connection to Redis; None: limits and notifications are those of this process.
        change_notifier: the notifier of services in this process, used without Redis; None: no notifications.
    """

    settings: Settings
    temporal: Client
    http: httpx.AsyncClient
    cache: Cache
    redis: RedisPolicy | None
    change_notifier: ChangeNotifier | None
    metrics: Metrics


class OpenedBackend(NamedTuple):
    """The backend of the resolvers, and the session monitor of the transports."""

    backend: Backend
    session_monitor: SessionMonitor


@asynccontextmanager
async def open_backend(resources: BackendResources) -> AsyncIterator[OpenedBackend]:
    """Build the backend, run its background tasks while the block runs, and close it in reverse order after it."""
    settings, cache, metrics, redis = resources.settings, resources.cache, resources.metrics, resources.redis
    keys = settings.secret_keys()

    breakers = {service: CircuitBreaker(service) for service in SERVICES}

    def service_client(service: str) -> ServiceClient:
        signer = ServiceTokenSigner(service, settings.service_keys(service))
        return ServiceClient(service, settings.service_url(service), resources.http, signer, breakers[service])

    auth, users = AuthClient(service_client("auth")), UsersClient(service_client("users"))
    tenants, files = TenantsClient(service_client("tenants")), FilesClient(service_client("files"))
    workspaces = WorkspacesClient(service_client("workspaces"))
    cursors, start_requests, durations = Cursors(keys), StartRequestFactory(keys), StepDurations()
    async with AsyncExitStack() as stack:
        change_notifier, token_buckets = await stack.enter_async_context(_notifier_and_token_buckets(resources))
        throttle = SignInThrottle(token_buckets, keys, settings.sign_in_limits())
        await stack.enter_async_context(durations.syncing(cache))
        tagged_cache = await stack.enter_async_context(TaggedCache(cache, encryption=Encryptor(keys, "copies")))
        observer = OperationObserver(tagged_cache, durations)
        long_poll_quota = LongPollQuota(max_long_polls=settings.max_long_polls)
        hub = await stack.enter_async_context(
            ProgressHub(
                resources.temporal,
                long_poll_quota=long_poll_quota,
                change_notifier=change_notifier,
                on_state=observer.observe,
                on_delay=metrics.lag.observe,
            )
        )
        describe_quota = DescribeQuota()
        records = OperationRecords(OperationsClient(service_client("operations")), hub, cursors, observer.invalidate)
        await stack.enter_async_context(records.running())
        passwords = stack.enter_context(closing(Passwords()))
        cache_lost = stack.enter_context(change_notifier.subscribe(CONNECTION_LOST))
        max_age_seconds = SESSION_CACHE_TTL_SECONDS if redis else 0.0
        session_cache = SessionCache(cache, auth, cache_lost, max_age_seconds=max_age_seconds)
        session_monitor = SessionMonitor(
            session_cache, change_notifier, check_interval_seconds=settings.session_check_interval_seconds
        )
        await stack.enter_async_context(session_monitor)
        metrics.add_gauge(
            "gateway_breaker_open",
            "1 while the circuit breaker of a service is open.",
            "service",
            lambda: {service: float(breaker.is_open) for service, breaker in breakers.items()},
        )
        metrics.add_gauge(
            "gateway_hub_watchers",
            "Operations that this process follows, by mode: long-poll, change notifications, or polling.",
            "mode",
            lambda: {mode.value.lower(): float(hub.watchers_by_mode[mode]) for mode in DeliveryMode},
        )
        metrics.add_counter(
            "gateway_cache_reads",
            "Reads of the shared cache, by the kind of entry, and whether it was found.",
            "result",
            lambda: (
                {"copy_hit": tagged_cache.hits, "copy_miss": tagged_cache.misses}
                | {"session_hit": session_cache.hits, "session_miss": session_cache.misses}
            ),
        )
        operations = await stack.enter_async_context(
            OperationLifecycle(resources.temporal, hub, records, change_notifier, cursors, describe_quota)
        )
        login_quota = await stack.enter_async_context(LoginQuota(operations))
        backend = Backend(
            operations=operations,
            records=records,
            start_requests=start_requests,
            onboarding_requests=OnboardingRequestFactory(start_requests, passwords, keys),
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
            sessions=session_monitor,
            durations=durations,
            pseudonyms=Pseudonyms(keys.current),
            app_url=settings.product_url(),
        )
        yield OpenedBackend(backend, session_monitor)


@asynccontextmanager
async def _notifier_and_token_buckets(
    resources: BackendResources,
) -> AsyncIterator[tuple[ChangeNotifier, TokenBucketStore]]:
    """Open those of Redis, which all replicas share, or those of this process if there is no Redis."""
    redis = resources.redis
    if redis is None:
        yield resources.change_notifier or LocalNotifier(has_publishers=False), MemoryTokenBuckets()
        return
    change_notifier = RedisNotifier(redis)
    async with change_notifier.listening():
        yield change_notifier, RedisTokenBuckets(redis)
