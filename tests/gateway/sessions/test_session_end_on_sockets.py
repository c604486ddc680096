"""A websocket closes as soon as its session has ended, has expired or grants other rights."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from activities.auth.revocations import CacheRevocationPublisher
from contracts.auth import Role
from contracts.base import utc_now
from infrastructure.caching.cache import Cache
from infrastructure.change_notifications import ChangeNotifier
from tests.gateway.fakes import GLOBEX, TOKEN, FakeServices, session, settings
from tests.gateway.live_gateway import VIEWER_QUERY, Gateway, authorization, running_gateway
from tests.gateway.sessions.auth_service import AuthService
from tests.gateway.sessions.streams import FEED, seconds_to_end
from tests.redis_access import open_cache, open_change_notifier


async def test_closes_immediately_when_its_session_ends(gateway: Gateway, auth: AuthService) -> None:
    async with gateway.open(authorization()) as sock:
        await sock.subscribe(FEED)
        await sock.execute(VIEWER_QUERY)
        await auth.end()
        assert await seconds_to_end(sock) < 1


async def test_closes_within_a_second_of_a_revocation_in_another_process_with_redis(
    temporal_address: str, services: FakeServices, redis_url: str, tmp_path: Path
) -> None:
    configured = settings(temporal_address, data_dir=tmp_path, redis_url=redis_url)
    async with AsyncExitStack() as stack:
        other_process = CacheRevocationPublisher(
            await stack.enter_async_context(open_cache(redis_url)),
            await stack.enter_async_context(open_change_notifier(redis_url)),
        )
        auth = AuthService(services, other_process)
        token = "a-token-of-this-test"
        auth.sessions[token] = session("ses_" + "b" * 32)
        gateways = [await stack.enter_async_context(running_gateway(configured, services)) for _ in range(2)]
        sockets = [
            await stack.enter_async_context(gateway.open(authorization(token)))
            for gateway in gateways
            for _ in range(3)
        ]
        for sock in sockets:
            assert (await sock.execute(VIEWER_QUERY))[0]["payload"]["data"]["viewer"] is not None
        await auth.end(token)
        assert max(await asyncio.gather(*map(seconds_to_end, sockets))) < 1


async def test_notices_a_revocation_in_another_process_at_the_next_check_without_redis(
    temporal_address: str, services: FakeServices, silent_auth: AuthService, tmp_path: Path
) -> None:
    """No notification reaches this process, and its cache entry still contains the session."""
    configured = settings(temporal_address, data_dir=tmp_path, session_check_interval_seconds=2)
    async with running_gateway(configured, services) as gateway, gateway.open(authorization()) as sock:
        await sock.execute(VIEWER_QUERY)
        await silent_auth.end()
        assert 0.2 < await seconds_to_end(sock) < 3


async def test_closes_when_its_session_expires(gateway: Gateway, auth: AuthService) -> None:
    auth.sessions[TOKEN] = session().model_copy(update={"expires_at": utc_now() + timedelta(seconds=1.5)})
    async with gateway.open(authorization()) as sock:
        await sock.execute(VIEWER_QUERY)
        auth.is_unavailable = True
        assert 0.5 < await seconds_to_end(sock) < 2.5


@pytest.mark.parametrize(
    "change",
    [{"role": Role.GUEST}, {"permissions": ("tenant:read",)}, {"tenant_id": GLOBEX}],
    ids=lambda each: next(iter(each)),
)
async def test_closes_when_the_permissions_of_its_session_change(
    gateway: Gateway, auth: AuthService, change: dict[str, Any]
) -> None:
    async with gateway.open(authorization()) as sock:
        await sock.execute(VIEWER_QUERY)
        changed = auth.sessions[TOKEN].model_copy(update=change)
        await auth.end()
        await auth.restore(TOKEN, changed)
        assert await seconds_to_end(sock) < 1


async def test_unavailable_auth_service_does_not_end_sessions(
    temporal_address: str, services: FakeServices, silent_auth: AuthService, tmp_path: Path
) -> None:
    configured = settings(temporal_address, data_dir=tmp_path, session_check_interval_seconds=0.5)
    async with running_gateway(configured, services) as gateway, gateway.open(authorization()) as sock:
        await sock.execute(VIEWER_QUERY)
        silent_auth.is_unavailable = True
        await asyncio.sleep(1.5)
        silent_auth.is_unavailable = False
        assert (await sock.execute(VIEWER_QUERY))[0]["payload"]["data"]["viewer"] is not None


async def test_token_of_a_running_login_keeps_the_socket_open_before_its_session_exists(
    gateway: Gateway, auth: AuthService
) -> None:
    later = auth.sessions.pop(TOKEN)
    async with gateway.open(authorization()) as sock:
        assert (await sock.execute(VIEWER_QUERY))[0]["payload"]["data"]["viewer"] is None
        auth.sessions[TOKEN] = later
        assert (await sock.execute(VIEWER_QUERY))[0]["payload"]["data"]["viewer"] is not None
        await auth.end()
        assert await seconds_to_end(sock) < 1


async def test_checks_a_session_once_for_all_its_sockets(
    temporal_address: str, services: FakeServices, silent_auth: AuthService, tmp_path: Path
) -> None:
    configured = settings(temporal_address, data_dir=tmp_path, session_check_interval_seconds=1)
    async with running_gateway(configured, services) as gateway, AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(gateway.open(authorization()))
        before, began = len(services.requests_to("auth/get_current_session")), time.monotonic()
        await asyncio.sleep(3)
        checks, seconds = len(services.requests_to("auth/get_current_session")) - before, time.monotonic() - began
        assert 2 <= checks <= seconds / 0.8 + 1


async def test_monitors_and_counts_a_session_that_is_found_after_the_socket_opened(
    temporal_address: str,
    services: FakeServices,
    cache: Cache,
    change_notifier: ChangeNotifier,
    auth: AuthService,
    tmp_path: Path,
) -> None:
    """The auth service does not respond while the socket opens."""
    configured = settings(temporal_address, data_dir=tmp_path, max_sockets_per_user=1)
    async with running_gateway(configured, services, cache=cache, change_notifier=change_notifier) as gateway:
        auth.is_unavailable = True
        async with gateway.open(authorization()) as first, gateway.open() as second:
            auth.is_unavailable = False
            await asyncio.sleep(1.5)
            await second.send({"type": "ping", "payload": authorization()})
            assert await second.wait_for_close() == 4429
            await auth.end()
            assert await seconds_to_end(first) < 1
