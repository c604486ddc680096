"""The cache that processes share: short texts under keys, each with an expiry.

``RedisCache`` keeps them in Redis; while Redis is unavailable its users go on without (bypass). ``MemoryCache`` keeps
them in this process, where there is no Redis. ``LocalCache`` keeps objects of this process.
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
"""Of a cache in the memory of a process."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# KEYS: the key. ARGV: the expected value, the new one, its expiry in milliseconds. Answers with 1 if it was replaced.
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""


class Cache(Protocol):
    """Texts under keys. A reader must be able to continue without the value: each can be lost at any time."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, str] | None:
        """Return the values of the keys that have one; None if the cache is unavailable."""

    async def set_many(self, values: Mapping[str, str], *, ttl_seconds: float, always: bool = False) -> bool:
        """Set all values and return whether they were set.

        ``always``: try even if the cache is known to be unavailable, because outdated values would stay there.
        """

    async def add(self, key: str, value: str, *, ttl_seconds: float) -> bool | None:
        """Set the value if the key has none. Return whether it was set; None if the cache is unavailable."""

    async def replace(self, key: str, value: str, *, expected: str, ttl_seconds: float) -> bool | None:
        """Set the value if the key has the expected one. Return as ``add`` does."""

    async def delete(self, key: str, *, always: bool = False) -> bool:
        """Delete the value and return whether that was possible. ``always``: as for ``set_many``."""


class LocalCache(Generic[Key, Value]):
    """Objects of this process, each with an expiry; beyond ``max_entries`` the oldest is evicted."""

    def __init__(self, max_entries: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Value | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at <= self._clock():
            del self._entries[key]
            return None
        return entry.value

    def set(self, key: Key, value: Value, *, ttl_seconds: float) -> None:
        self._entries[key] = _Entry(value, self._clock() + ttl_seconds)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def delete(self, key: Key) -> None:
        self._entries.pop(key, None)


class _Entry(NamedTuple, Generic[Value]):
    value: Value
    expires_at: float


class MemoryCache:
    """The cache of a process that shares it with no other one."""

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

    async def replace(self, key: str, value: str, *, expected: str, ttl_seconds: float) -> bool:
        if self._values.get(key) != expected:
            return False
        return await self.set_many({key: value}, ttl_seconds=ttl_seconds)

    async def delete(self, key: str, *, always: bool = False) -> bool:  # noqa: ARG002 - likewise
        self._values.delete(key)
        return True


class RedisCache:
    """The cache in Redis. Bytes there that are not text become text that no reader accepts: they stop no other read."""

    def __init__(self, redis: RedisPolicy) -> None:
        self._redis = redis
        self._aiocache: _Aiocache | None = None

    async def get_many(self, keys: Sequence[str]) -> dict[str, str] | None:
        found: list[str | None] | None = await self._redis.bypass(lambda redis: self._of(redis).multi_get(keys), None)
        if found is None:
            return None
        return {key: value for key, value in zip(keys, found, strict=True) if value is not None}

    async def set_many(self, values: Mapping[str, str], *, ttl_seconds: float, always: bool = False) -> bool:
        async def set_all(redis: Redis) -> bool:
            await self._of(redis).multi_set(list(values.items()), ttl=float(ttl_seconds))
            return True

        return await self._redis.bypass(set_all, default=False, always=always)

    async def add(self, key: str, value: str, *, ttl_seconds: float) -> bool | None:
        async def add(redis: Redis) -> bool:
            try:
                await self._of(redis).add(key, value, ttl=float(ttl_seconds))
            except ValueError:  # the key has a value
                return False
            return True

        return await self._redis.bypass(add, None)

    async def replace(self, key: str, value: str, *, expected: str, ttl_seconds: float) -> bool | None:
        async def replace(redis: Redis) -> bool:
            arguments = (expected, value, _milliseconds(ttl_seconds))
            return bool(await redis.register_script(_REPLACE)(keys=[key], args=arguments))

        return await self._redis.bypass(replace, None)

    async def delete(self, key: str, *, always: bool = False) -> bool:
        async def delete(redis: Redis) -> bool:
            await self._of(redis).delete(key)
            return True

        return await self._redis.bypass(delete, default=False, always=always)

    def _of(self, redis: Redis) -> _Aiocache:
        if self._aiocache is None:
            self._aiocache = _Aiocache(redis)
        return self._aiocache


class _Aiocache(aiocache.RedisCache):  # type: ignore[misc] # it has no types
    """aiocache's cache on a client that exists: its own constructor supports neither TLS nor user names."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(serializer=_TextSerializer(), timeout=None)
        self.client = redis


class _TextSerializer(BaseSerializer):  # type: ignore[misc] # it has no types
    DEFAULT_ENCODING = None
    """aiocache then passes on the bytes of Redis."""

    def dumps(self, value: str) -> bytes:
        return value.encode()

    def loads(self, value: bytes | None) -> str | None:
        return None if value is None else value.decode(errors="replace")


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
