"""Clients, caches and notifiers for tests that use a Redis server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, Redis

from infrastructure.caching.cache import Cache, MemoryCache, RedisCache
from infrastructure.change_notifications import RedisNotifier
from infrastructure.redis_policy import RedisPolicy

TEST_TIMEOUT_SECONDS = 10.0
"""A timeout of commands that is not exceeded on a busy machine."""


@asynccontextmanager
async def open_redis(url: str, *, timeout_seconds: float = TEST_TIMEOUT_SECONDS) -> AsyncIterator[RedisPolicy]:
    async with RedisPolicy(url, timeout_seconds=timeout_seconds).running() as redis:
        yield redis


@asynccontextmanager
async def open_cache(url: str | None, *, timeout_seconds: float = TEST_TIMEOUT_SECONDS) -> AsyncIterator[Cache]:
    """Yield a cache in this Redis, or in memory for None."""
    if url is None:
        yield MemoryCache()
        return
    async with open_redis(url, timeout_seconds=timeout_seconds) as redis:
        yield RedisCache(redis)


@asynccontextmanager
async def open_change_notifier(
    url: str, *, timeout_seconds: float = TEST_TIMEOUT_SECONDS
) -> AsyncIterator[RedisNotifier]:
    """Yield a notifier that sends change notifications and does not receive those of other processes."""
    async with open_redis(url, timeout_seconds=timeout_seconds) as redis:
        yield RedisNotifier(redis)


def redis_client(url: str) -> Redis:
    """Return a client with which a test reads and changes the data in Redis."""
    return Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=50, timeout=TEST_TIMEOUT_SECONDS))


async def flush(url: str | None) -> None:
    if url is not None:
        async with redis_client(url) as redis:
            await redis.flushdb()


async def get_value(cache: Cache, key: str) -> str | None:
    return (await cache.get_many((key,)) or {}).get(key)
