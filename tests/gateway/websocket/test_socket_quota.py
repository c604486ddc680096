"""Sockets by user and by address are counted by all gateways together, and nothing that is open ends with Redis."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.gateway.fakes import TOKEN, Services, settings
from tests.gateway.live_gateway import WHO, running_gateway
from tests.redis_server import RedisServer


async def until_so_many_of_users(most: int, server: RedisServer) -> None:
    async with asyncio.timeout(10):
        while True:
            keys = await server.execute("KEYS", "limits:quota:user:*")
            counts = [value for key in keys for value in await server.execute("HVALS", key)]
            if sum(int(value.split()[0]) for value in counts) == most:
                return
            await asyncio.sleep(0.02)


async def test_gateways_share_the_places_of_users_and_of_addresses(
    temporal_address: str, services: Services, tmp_path: Path
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
                await socket.ask(WHO)
            await until_so_many_of_users(2, server)
            async with one.open({"authorization": TOKEN}) as third_of_ada:
                assert await third_of_ada.end() == 4429
            await stack.enter_async_context(one.open())
            with pytest.raises(Exception, match="4429"):
                await stack.enter_async_context(other.open())
            server.send_signal(signal.SIGKILL)
            assert (await socket.ask(WHO))[0]["type"] == "next"
            async with other.open() as fourth:
                assert (await fourth.ask("{ __typename }"))[0]["type"] == "next"
    finally:
        server.close()
