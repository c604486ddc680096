"""Caches, clients and a policy for a Redis that a test names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, Redis

from infrastructure.caching.cache import Cache, MemoryCache, RedisCache
from infrastructure.change_notifications import RedisNotifier
from infrastructure.redis_policy import RedisPolicy

PATIENT_SECONDS = 10.0
"""A timeout that a busy machine does not exceed."""


@asynccontextmanager
async def open_redis(url: str, *, timeout_seconds: float = PATIENT_SECONDS) -> AsyncIterator[RedisPolicy]:
    async with RedisPolicy(url, timeout_seconds=timeout_seconds).running() as redis:
        yield redis


@asynccontextmanager
async def open_cache(url: str | None, *, timeout_seconds: float = PATIENT_SECONDS) -> AsyncIterator[Cache]:
    """The cache in that Redis, or in memory for None."""
    if url is None:
        yield MemoryCache()
        return
    async with open_redis(url, timeout_seconds=timeout_seconds) as redis:
        yield RedisCache(redis)


@asynccontextmanager
async def open_wakeups(url: str, *, timeout_seconds: float = PATIENT_SECONDS) -> AsyncIterator[RedisNotifier]:
    """Change notifications of a process that only sends."""
    async with open_redis(url, timeout_seconds=timeout_seconds) as redis:
        yield RedisNotifier(redis)


def redis_client(url: str) -> Redis:
    """A client for what tests look at and change in Redis."""
    return Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=50, timeout=PATIENT_SECONDS))


async def flush(url: str | None) -> None:
    if url is not None:
        async with redis_client(url) as redis:
            await redis.flushdb()


async def value_of(cache: Cache, key: str) -> str | None:
    return (await cache.get_many((key,)) or {}).get(key)
