"""What the resolvers work with, put together once a process and closed in the order in which it was opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import NamedTuple

import httpx
from aiocache.base import BaseCache
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from temporalio.client import Client

from contracts.auth import HOT_SESSION_SECONDS
from contracts.cache import redis_at
from contracts.calls import CallSigner
from gateway.metrics import Metrics
from gateway.session_watch import SessionWatch
from gateway.sessions import HotSessions
from gateway.settings import SERVICES, Settings
from infrastructure.change_notifications import LOST, LocalWakeups, SharedWakeups, Wakeups
from infrastructure.passwords import Passwords
from infrastructure.pseudonyms import Pseudonyms
from infrastructure.rate_limit import MemoryTokenBuckets, RedisTokenBuckets, TokenBucketStore
from resolvers.breakers import Breaker
from resolvers.budget import Budget
from resolvers.cache import Copies
from resolvers.clients.auth import AuthClient
from resolvers.clients.calls import ServiceCalls
from resolvers.clients.files import FilesClient
from resolvers.clients.operations import OperationsClient
from resolvers.clients.tenants import TenantsClient
from resolvers.clients.users import UsersClient
from resolvers.clients.workspaces import WorkspacesClient
from resolvers.context import Backend
from resolvers.credentials import CredentialChecks
from resolvers.cursors import Cursors
from resolvers.dashboard import Sources
from resolvers.describe_quota import DescribeQuota
from resolvers.durations import Durations
from resolvers.known_users import KnownUsers
from resolvers.login_quota import LoginQuota
from resolvers.observer import OperationObserver
from resolvers.onboard_user import OnboardingRequestFactory
from resolvers.operation_records import OperationRecords
from resolvers.operations import Operations
from resolvers.orders import Orders
from resolvers.progress import ProgressHub
from resolvers.sealing import Seal
from resolvers.sign_in_throttle import SignInThrottle
from resolvers.watcher import Mode

_SECONDS = 0.75
"""A Redis that is slower than this is done without."""


class OpenedBackend(NamedTuple):
    """What resolvers use, and the watch of sessions, which only transports use."""

    backend: Backend
    sessions: SessionWatch


@asynccontextmanager
async def open_backend(
    settings: Settings,
    temporal: Client,
    http: httpx.AsyncClient,
    cache: BaseCache,
    local_notifier: Wakeups | None,
    metrics: Metrics,
    instrument: Callable[[Redis], None] = lambda _: None,
) -> AsyncIterator[OpenedBackend]:
    """Open while the block runs. ``http`` carries the calls of the services; ``local_notifier`` carries the change
    notifications of services in this process. ``instrument`` is called with each client of Redis.
    """
    keys = settings.secret_keys()

    breakers = {service: Breaker(service) for service in SERVICES}

    def calls(service: str) -> ServiceCalls:
        signer = CallSigner(service, settings.service_keys(service))
        return ServiceCalls(service, settings.service(service), http, signer, breakers[service])

    auth, users, tenants = AuthClient(calls("auth")), UsersClient(calls("users")), TenantsClient(calls("tenants"))
    files, workspaces = FilesClient(calls("files")), WorkspacesClient(calls("workspaces"))
    cursors, orders, durations = Cursors(keys), Orders(keys), Durations()
    async with AsyncExitStack() as stack:
        wakeups, token_buckets = await stack.enter_async_context(
            _shared(settings.redis_url, local_notifier, instrument)
        )
        throttle = SignInThrottle(token_buckets, keys, settings.sign_in_limits())
        await stack.enter_async_context(durations.shared(cache))
        copies = await stack.enter_async_context(Copies(cache, seal=Seal(keys, "copies")))
        observer = OperationObserver(copies, durations)
        budget = Budget(long_polls=settings.long_polls)
        hub = await stack.enter_async_context(
            ProgressHub(
                temporal, budget=budget, wakeups=wakeups, observe=observer.see, observe_delay=metrics.lag.observe
            )
        )
        describe_quota = DescribeQuota()
        records = OperationRecords(OperationsClient(calls("operations")), hub, cursors, observer.closed)
        await stack.enter_async_context(records.running())
        passwords = stack.enter_context(closing(Passwords()))
        is_lost = stack.enter_context(wakeups.hearing(LOST))
        hot_seconds = HOT_SESSION_SECONDS if settings.redis_url else 0.0
        hot_sessions = HotSessions(cache, auth, is_lost, hot_seconds=hot_seconds)
        sessions = SessionWatch(hot_sessions, wakeups, check_seconds=settings.session_check_seconds)
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
                {"copy_hit": copies.hits, "copy_miss": copies.misses}
                | {"session_hit": hot_sessions.hits, "session_miss": hot_sessions.misses}
            ),
        )
        operations = await stack.enter_async_context(
            Operations(temporal, hub, records, wakeups, cursors, describe_quota)
        )
        login_quota = await stack.enter_async_context(LoginQuota(operations))
        backend = Backend(
            operations=operations,
            records=records,
            orders=orders,
            onboarding_requests=OnboardingRequestFactory(orders, passwords, keys),
            cursors=cursors,
            credentials=CredentialChecks(auth, throttle, keys.current),
            throttle=throttle,
            login_quota=login_quota,
            auth=auth,
            users=KnownUsers(users, copies),
            tenants=tenants,
            files=files,
            workspaces=workspaces,
            dashboards=Sources(copies, records, users, tenants, files),
            sessions=sessions,
            durations=durations,
            pseudonyms=Pseudonyms(keys.current),
            app_url=settings.product_url(),
        )
        yield OpenedBackend(backend, sessions)


@asynccontextmanager
async def _shared(
    redis_url: str | None, local_notifier: Wakeups | None, instrument: Callable[[Redis], None]
) -> AsyncIterator[tuple[Wakeups, TokenBucketStore]]:
    """What replicas share where there is a Redis, and each has for itself where there is none."""
    if redis_url is None:
        yield local_notifier or LocalWakeups(has_publishers=False), MemoryTokenBuckets()
        return
    again = Retry(NoBackoff(), 1)  # for a connection that is no more, which one learns by using it
    async with (
        redis_at(redis_url) as redis,
        Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0)) as ears,
        redis_at(
            redis_url,
            seconds=_SECONDS,
            socket_timeout=_SECONDS,
            socket_connect_timeout=_SECONDS,
            retry=again,
        ) as asked,
    ):
        for client in (redis, asked):
            instrument(client)
        shared = SharedWakeups(redis, ears)
        async with shared.listening():
            yield shared, RedisTokenBuckets(asked)
