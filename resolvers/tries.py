"""Counted tries: buckets that fill up again by themselves, looked at and drawn from in one atomic step."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.errors import ServiceUnavailable

_DEADLINE_SECONDS = 1.0
_MOST_BUCKETS = 100_000
"""Of one process's memory; beyond, who tried longest ago is forgotten."""

# Redis's own clock, for those of the processes differ. KEYS: buckets; ARGV: how many tries, then, for each bucket, how
# many it holds and how many come back a second. Answers with the seconds until all have enough, 0 where all had.
_SCRIPT = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local cost, wait, left = tonumber(ARGV[1]), 0, {}
for i, key in ipairs(KEYS) do
    local most, back = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
    local kept = redis.call('HMGET', key, 'left', 'at')
    left[i] = most
    if kept[1] then
        left[i] = math.min(most, tonumber(kept[1]) + math.max(0, now - tonumber(kept[2])) * back)
    end
    if left[i] < cost then wait = math.max(wait, (cost - left[i]) / back) end
end
if wait > 0 then return tostring(wait) end
for i, key in ipairs(KEYS) do
    local most, back = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
    redis.call('HSET', key, 'left', math.min(most, left[i] - cost), 'at', now)
    redis.call('PEXPIRE', key, math.ceil(most / back * 1000))
end
return '0'
"""

log = structlog.get_logger()


class Bucket(NamedTuple):
    """``most`` tries; once it is empty it takes ``seconds`` until it is full again."""

    name: str
    most: int
    seconds: float


class Tries(Protocol):
    async def take(self, buckets: Sequence[Bucket]) -> float:
        """One try out of each, or none out of any; then the seconds until each has one. Otherwise 0.

        Raises ServiceUnavailable where nobody can tell.
        """

    async def give_back(self, buckets: Sequence[Bucket]) -> None:
        """A try that did no harm; where nobody takes it back, it comes back by itself in time."""


class MemoryTries:
    """Of this process alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def take(self, buckets: Sequence[Bucket]) -> float:
        return self._draw(buckets, 1)

    async def give_back(self, buckets: Sequence[Bucket]) -> None:
        self._draw(buckets, -1)

    def _draw(self, buckets: Sequence[Bucket], cost: int) -> float:
        now = self._clock()
        left = [self._left(bucket, now) for bucket in buckets]
        waits = [
            (cost - each) * bucket.seconds / bucket.most
            for bucket, each in zip(buckets, left, strict=True)
            if each < cost
        ]
        if waits:
            return max(waits)
        for bucket, each in zip(buckets, left, strict=True):
            self._kept[bucket.name] = min(float(bucket.most), each - cost), now
            self._kept.move_to_end(bucket.name)
        while len(self._kept) > _MOST_BUCKETS:
            self._kept.popitem(last=False)
        return 0.0

    def _left(self, bucket: Bucket, now: float) -> float:
        left, at = self._kept.get(bucket.name, (float(bucket.most), now))
        return min(float(bucket.most), left + (now - at) * bucket.most / bucket.seconds)


class RedisTries:
    """Of all processes together."""

    def __init__(self, redis: Redis) -> None:
        self._script = redis.register_script(_SCRIPT)

    async def take(self, buckets: Sequence[Bucket]) -> float:
        try:
            return await self._draw(buckets, 1)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("tries cannot be counted", error=repr(error))
            raise ServiceUnavailable(service="redis") from error

    async def give_back(self, buckets: Sequence[Bucket]) -> None:
        try:
            await self._draw(buckets, -1)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("a try was not given back", error=repr(error))

    async def _draw(self, buckets: Sequence[Bucket], cost: int) -> float:
        # In braces stands what a cluster places keys by: one script's lie on one of its servers.
        keys = [f"{{tries}}:{bucket.name}" for bucket in buckets]
        numbers = [number for bucket in buckets for number in (bucket.most, bucket.most / bucket.seconds)]
        async with asyncio.timeout(_DEADLINE_SECONDS):
            return float(await self._script(keys=keys, args=[cost, *numbers]))
