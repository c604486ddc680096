"""All gateways together count sockets by user and by address, and open sockets survive an outage of Redis."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.gateway.fakes import TOKEN, FakeServices, settings
from tests.gateway.live_gateway import VIEWER_QUERY, running_gateway
from tests.redis_server import RedisServer


async def wait_until_users_hold(expected: int, server: RedisServer) -> None:
    """Wait until the quota of users in Redis has this total count."""
    async with asyncio.timeout(10):
        while True:
            keys = await server.execute("KEYS", "limits:quota:user:*")
            counts = [value for key in keys for value in await server.execute("HVALS", key)]
            if sum(int(value.split()[0]) for value in counts) == expected:
                return
            await asyncio.sleep(0.02)


async def test_gateways_share_the_quotas_of_users_and_addresses(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    server = RedisServer(tmp_path)
    server.start()
    configured = settings(
        temporal_address, data_dir=tmp_path, redis_url=server.url, max_sockets_per_user=2, max_sockets_per_address=3
    )
    try:
        async with (
            running_gateway(configured, services) as one,
            running_gateway(configured, services) as other,
            AsyncExitStack() as stack,
        ):
            for gateway in (one, other):
                socket = await stack.enter_async_context(gateway.open({"authorization": TOKEN}))
                await socket.execute(VIEWER_QUERY)
            await wait_until_users_hold(2, server)
            async with one.open({"authorization": TOKEN}) as third_of_ada:
                assert await third_of_ada.wait_for_close() == 4429
            await stack.enter_async_context(one.open())
            with pytest.raises(Exception, match="4429"):
                await stack.enter_async_context(other.open())
            server.send_signal(signal.SIGKILL)
            assert (await socket.execute(VIEWER_QUERY))[0]["type"] == "next"
            async with other.open() as fourth:
                assert (await fourth.execute("{ __typename }"))[0]["type"] == "next"
    finally:
        server.close()
