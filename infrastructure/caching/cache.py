"""Caches of short texts under keys, each with an expiry time.

``RedisCache`` is shared by all processes; while Redis is unavailable, reads and writes have no effect (bypass).
``MemoryCache`` has the same interface and is used without Redis. ``LocalCache`` holds Python objects of one process.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import aiocache
from aiocache.serializers import BaseSerializer
from redis.asyncio import Redis

from infrastructure.redis_policy import RedisPolicy

MAX_ENTRIES = 100_000
"""Maximum number of entries of a ``MemoryCache``."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# KEYS: the key. ARGV: the expected value, the new value, its expiry in milliseconds. Returns 1 if it was replaced.
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""


class Cache(Protocol):
    """A cache of texts. Any value can be lost at any time, so callers must be able to continue without it."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, str] | None:
        """Return the values of those keys that have a value; None if the cache is unavailable."""

    async def set_many(self, values: Mapping[str, str], *, ttl_seconds: float, always: bool = False) -> bool:
        """Set all values and return whether they were set.

        Args:
            values: The values by key.
            ttl_seconds: Time until the values expire.
            always: Try even while the cache counts as unavailable, because outdated values would stay there.
        """

    async def add(self, key: str, value: str, *, ttl_seconds: float) -> bool | None:
        """Set the value if the key has none. Return whether it was set; None if the cache is unavailable."""

    async def replace(self, key: str, value: str, *, expected_value: str, ttl_seconds: float) -> bool | None:
        """Set the value if the key has ``expected_value`` (compare and set).

        Return whether it was set; None if the cache is unavailable.
        """

    async def delete(self, key: str, *, always: bool = False) -> bool:
        """Delete the value and return whether the cache was available. ``always``: as for ``set_many``."""


class LocalCache(Generic[Key, Value]):
    """A cache of Python objects with an expiry time; beyond ``max_entries`` the oldest entry is evicted."""

    def __init__(self, max_entries: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Value | None:
        """Return the value; None if the key has none or the value has expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at <= self._clock():
            del self._entries[key]
            return None
        return entry.value

    def set(self, key: Key, value: Value, *, ttl_seconds: float) -> None:
        """Set the value, and evict the oldest entry if there are too many."""
        self._entries[key] = _Entry(value, self._clock() + ttl_seconds)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def delete(self, key: Key) -> None:
        """Delete the value if the key has one."""
        self._entries.pop(key, None)


class _Entry(NamedTuple, Generic[Value]):
    value: Value
    expires_at: float


class MemoryCache:
    """A ``Cache`` in the memory of one process, used without Redis."""

    def __init__(self) -> None:
        self._values: LocalCache[str, str] = LocalCache(MAX_ENTRIES)

    async def get_many(self, keys: Sequence[str]) -> dict[str, str]:
        values = {key: self._values.get(key) for key in keys}
        return {key: value for key, value in values.items() if value is not None}

    async def set_many(
        self,
        values: Mapping[str, str],
        *,
        ttl_seconds: float,
        always: bool = False,  # noqa: ARG002 - this cache is never unavailable
    ) -> bool:
        for key, value in values.items():
            self._values.set(key, value, ttl_seconds=ttl_seconds)
        return True

    async def add(self, key: str, value: str, *, ttl_seconds: float) -> bool:
        if self._values.get(key) is not None:
            return False
        return await self.set_many({key: value}, ttl_seconds=ttl_seconds)

    async def replace(self, key: str, value: str, *, expected_value: str, ttl_seconds: float) -> bool:
        if self._values.get(key) != expected_value:
            return False
        return await self.set_many({key: value}, ttl_seconds=ttl_seconds)

    async def delete(self, key: str, *, always: bool = False) -> bool:  # noqa: ARG002 - likewise
        self._values.delete(key)
        return True


class RedisCache:
    """A ``Cache`` in Redis, shared by all processes that use it.

    Bytes that are not valid UTF-8 are decoded with replacement characters, so that they do not make other reads fail.
    """

    def __init__(self, redis: RedisPolicy) -> None:
        self._redis = redis
        self._aiocache: _Aiocache | None = None

    async def get_many(self, keys: Sequence[str]) -> dict[str, str] | None:
        values: list[str | None] | None = await self._redis.bypass(
            lambda redis: self._client(redis).multi_get(keys), None
        )
        if values is None:
            return None
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    async def set_many(self, values: Mapping[str, str], *, ttl_seconds: float, always: bool = False) -> bool:
        async def set_all(redis: Redis) -> bool:
            await self._client(redis).multi_set(list(values.items()), ttl=float(ttl_seconds))
            return True

        return await self._redis.bypass(set_all, default=False, always=always)

    async def add(self, key: str, value: str, *, ttl_seconds: float) -> bool | None:
        async def add(redis: Redis) -> bool:
            try:
                await self._client(redis).add(key, value, ttl=float(ttl_seconds))
            except ValueError:  # aiocache raises it if the key has a value
                return False
            return True

        return await self._redis.bypass(add, None)

    async def replace(self, key: str, value: str, *, expected_value: str, ttl_seconds: float) -> bool | None:
        async def replace(redis: Redis) -> bool:
            arguments = (expected_value, value, _milliseconds(ttl_seconds))
            return bool(await redis.register_script(_REPLACE)(keys=[key], args=arguments))

        return await self._redis.bypass(replace, None)

    async def delete(self, key: str, *, always: bool = False) -> bool:
        async def delete(redis: Redis) -> bool:
            await self._client(redis).delete(key)
            return True

        return await self._redis.bypass(delete, default=False, always=always)

    def _client(self, redis: Redis) -> _Aiocache:
        if self._aiocache is None:
            self._aiocache = _Aiocache(redis)
        return self._aiocache


class _Aiocache(aiocache.RedisCache):  # type: ignore[misc] # it has no types
    """aiocache's Redis cache with an existing client: its own constructor supports neither TLS nor user names."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(serializer=_TextSerializer(), timeout=None)
        self.client = redis


class _TextSerializer(BaseSerializer):  # type: ignore[misc] # it has no types
    DEFAULT_ENCODING = None
    """With None, aiocache passes the bytes from Redis to ``loads``."""

    def dumps(self, value: str) -> bytes:
        return value.encode()

    def loads(self, value: bytes | None) -> str | None:
        return None if value is None else value.decode(errors="replace")


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
