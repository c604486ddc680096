"""Redis as many use it at one moment."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from contracts.cache import open_cache, redis_at


async def test_more_commands_at_one_moment_than_connections_wait_for_one(redis_url: str) -> None:
    async with redis_at(redis_url) as redis:
        assert await asyncio.gather(*(redis.ping() for _ in range(1000))) == [True] * 1000
        async with Redis.from_url(redis_url) as looking:
            assert len(await looking.client_list()) <= 60


async def test_so_does_the_cache(redis_url: str) -> None:
    async with open_cache(redis_url) as cache:
        await cache.set("many", "value", ttl=5)
        assert await asyncio.gather(*(cache.get("many") for _ in range(500))) == ["value"] * 500
