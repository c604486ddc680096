"""How every process opens the cache that gateway and services share: short strings under keys that contracts name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiocache import RedisCache, SimpleMemoryCache
from aiocache.base import BaseCache
from aiocache.plugins import BasePlugin
from aiocache.serializers import StringSerializer
from redis.asyncio import BlockingConnectionPool, Redis

DEADLINE_SECONDS = 2.0
"""A cache that is slower than this is no cache."""

_MOST_CONNECTIONS = 50
"""Of a process. Who asks while all are busy waits for one: two thousand clients that come back at once need no more."""


@asynccontextmanager
async def open_cache(
    redis_url: str | None,
    *,
    seconds: float = DEADLINE_SECONDS,
    plugins: Sequence[BasePlugin] = (),
    on_open: Callable[[Redis], None] = lambda _: None,
) -> AsyncIterator[BaseCache]:
    """The Redis of that URL (``redis://``, ``rediss://`` or ``unix://``), or this process's own memory for None.

    Values are strings; each command has ``seconds``. It connects at first use, so that a Redis that is
    down keeps nobody from starting. ``plugins`` observe its reads and writes; ``on_open`` is
    called with its client of Redis.
    """
    if redis_url is None:
        yield SimpleMemoryCache(serializer=StringSerializer(), timeout=seconds, plugins=list(plugins))
        return
    cache = _Redis(serializer=StringSerializer(), timeout=seconds, plugins=list(plugins))
    async with redis_at(redis_url) as client:
        on_open(client)
        cache.client = client  # its own constructor knows neither TLS nor user names
        yield cache


def redis_at(url: str, *, seconds: float = DEADLINE_SECONDS, **options: Any) -> Redis:
    """A client with a bounded number of connections; who finds all busy waits for one for so many ``seconds``.

    Redis' own clients have a bound, too, and raise beyond it. ``options`` are those of its connections.
    """
    connections = BlockingConnectionPool.from_url(url, max_connections=_MOST_CONNECTIONS, timeout=seconds, **options)
    return Redis.from_pool(connections)


class _Redis(RedisCache):  # type: ignore[misc] # it has no types
    """Reads many keys for half of what it costs through redis-py's own ``mget``, which looks up its signature anew at
    each call to tell of deprecated arguments.
    """

    async def _multi_get(
        self, keys: Sequence[str], encoding: str | None = "utf-8", _conn: object = None
    ) -> list[str | bytes | None]:
        values: list[bytes | None] = await self.client.execute_command("MGET", *keys)
        return [_text(value, encoding) for value in values]

    async def _get(self, key: str, encoding: str | None = "utf-8", _conn: object = None) -> str | bytes | None:
        value: bytes | None = await self.client.get(key)
        return _text(value, encoding)


def _text(value: bytes | None, encoding: str | None) -> str | bytes | None:
    """Bytes that are no text become text that no reader accepts: one bad value must not fail a read of many."""
    return value if value is None or encoding is None else value.decode(encoding, errors="replace")
