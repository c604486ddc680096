"""How every process opens the cache that gateway and services share: short strings under keys that contracts name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiocache import RedisCache, SimpleMemoryCache
from aiocache.base import BaseCache
from aiocache.serializers import StringSerializer
from redis.asyncio import Redis

DEADLINE_SECONDS = 2.0
"""A cache that is slower than this is no cache."""


@asynccontextmanager
async def open_cache(redis_url: str | None) -> AsyncIterator[BaseCache]:
    """The Redis of that URL (``redis://``, ``rediss://`` or ``unix://``), or this process's own memory for None.

    Values are strings. It connects at first use, so that a Redis that is down keeps nobody from starting.
    """
    if redis_url is None:
        yield SimpleMemoryCache(serializer=StringSerializer(), timeout=DEADLINE_SECONDS)
        return
    cache = RedisCache(serializer=StringSerializer(), timeout=DEADLINE_SECONDS)
    async with Redis.from_url(redis_url) as client:
        cache.client = client  # its own constructor knows neither TLS nor user names
        yield cache
