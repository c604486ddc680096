"""A websocket is closed as soon as its session has ended, has expired or grants something else."""

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
from tests.gateway.fakes import GLOBEX, TOKEN, Services, session, settings
from tests.gateway.live_gateway import WHO, Gateway, introduction, running_gateway
from tests.gateway.sessions.auth_service import AuthService
from tests.gateway.sessions.streams import FEED, seconds_to_end
from tests.redis_access import open_cache, open_change_notifier


async def test_a_socket_ends_with_its_session_at_once(gateway: Gateway, auth: AuthService) -> None:
    async with gateway.open(introduction()) as sock:
        await sock.subscribe(FEED)
        await sock.ask(WHO)
        await auth.end()
        assert await seconds_to_end(sock) < 1


async def test_with_redis_a_socket_ends_within_a_second_of_a_revocation_in_another_process(
    temporal_address: str, services: Services, redis_url: str, tmp_path: Path
) -> None:
    known = settings(temporal_address, data_dir=tmp_path, redis_url=redis_url)
    async with AsyncExitStack() as stack:
        elsewhere = CacheRevocationPublisher(
            await stack.enter_async_context(open_cache(redis_url)),
            await stack.enter_async_context(open_change_notifier(redis_url)),
        )
        auth = AuthService(services, elsewhere)
        token = "a-token-of-this-test"
        auth.sessions[token] = session("ses_" + "b" * 32)
        gateways = [await stack.enter_async_context(running_gateway(known, services)) for _ in range(2)]
        sockets = [
            await stack.enter_async_context(gateway.open(introduction(token))) for gateway in gateways for _ in range(3)
        ]
        for sock in sockets:
            assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"] is not None
        await auth.end(token)
        assert max(await asyncio.gather(*map(seconds_to_end, sockets))) < 1


async def test_without_redis_a_revocation_elsewhere_is_seen_at_the_next_check(
    temporal_address: str, services: Services, silent_auth: AuthService, tmp_path: Path
) -> None:
    """Nothing reaches this process: its copy of the session still says that it lives."""
    known = settings(temporal_address, data_dir=tmp_path, session_check_interval_seconds=2)
    async with running_gateway(known, services) as gateway, gateway.open(introduction()) as sock:
        await sock.ask(WHO)
        await silent_auth.end()
        assert 0.2 < await seconds_to_end(sock) < 3


async def test_a_socket_ends_when_its_session_expires(gateway: Gateway, auth: AuthService) -> None:
    auth.sessions[TOKEN] = session().model_copy(update={"expires_at": utc_now() + timedelta(seconds=1.5)})
    async with gateway.open(introduction()) as sock:
        await sock.ask(WHO)
        auth.is_away = True
        assert 0.5 < await seconds_to_end(sock) < 2.5


@pytest.mark.parametrize(
    "change",
    [{"role": Role.GUEST}, {"permissions": ("tenant:read",)}, {"tenant_id": GLOBEX}],
    ids=lambda each: next(iter(each)),
)
async def test_a_socket_ends_when_its_viewer_may_no_longer_do_the_same(
    gateway: Gateway, auth: AuthService, change: dict[str, Any]
) -> None:
    async with gateway.open(introduction()) as sock:
        await sock.ask(WHO)
        changed = auth.sessions[TOKEN].model_copy(update=change)
        await auth.end()
        await auth.restore(TOKEN, changed)
        assert await seconds_to_end(sock) < 1


async def test_an_auth_service_that_does_not_answer_ends_no_session(
    temporal_address: str, services: Services, silent_auth: AuthService, tmp_path: Path
) -> None:
    known = settings(temporal_address, data_dir=tmp_path, session_check_interval_seconds=0.5)
    async with running_gateway(known, services) as gateway, gateway.open(introduction()) as sock:
        await sock.ask(WHO)
        silent_auth.is_away = True
        await asyncio.sleep(1.5)
        silent_auth.is_away = False
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"] is not None


async def test_the_token_of_a_login_under_way_ends_nothing_until_it_has_opened_something(
    gateway: Gateway, auth: AuthService
) -> None:
    later = auth.sessions.pop(TOKEN)
    async with gateway.open(introduction()) as sock:
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"] is None
        auth.sessions[TOKEN] = later
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"] is not None
        await auth.end()
        assert await seconds_to_end(sock) < 1


async def test_one_check_serves_all_sockets_of_a_session(
    temporal_address: str, services: Services, silent_auth: AuthService, tmp_path: Path
) -> None:
    known = settings(temporal_address, data_dir=tmp_path, session_check_interval_seconds=1)
    async with running_gateway(known, services) as gateway, AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(gateway.open(introduction()))
        before, began = len(services.asked("auth/get_current_session")), time.monotonic()
        await asyncio.sleep(3)
        checks, seconds = len(services.asked("auth/get_current_session")) - before, time.monotonic() - began
        assert 2 <= checks <= seconds / 0.8 + 1


async def test_a_session_found_late_is_watched_and_counted_all_the_same(
    temporal_address: str,
    services: Services,
    cache: Cache,
    change_notifier: ChangeNotifier,
    auth: AuthService,
    tmp_path: Path,
) -> None:
    """The service did not answer as the socket was opened."""
    known = settings(temporal_address, data_dir=tmp_path, max_sockets_per_user=1)
    async with running_gateway(known, services, cache=cache, change_notifier=change_notifier) as gateway:
        auth.is_away = True
        async with gateway.open(introduction()) as first, gateway.open() as second:
            auth.is_away = False
            await asyncio.sleep(1.5)
            await second.say({"type": "ping", "payload": introduction()})
            assert await second.end() == 4429
            await auth.end()
            assert await seconds_to_end(first) < 1
