"""Rate limits: token buckets, one per key, in the memory of this process or in Redis.

Each operation takes constant time: keys in memory are ordered by their last use, and beyond ``max_keys`` the least
recently used key is evicted.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from redis.asyncio import Redis

from infrastructure.redis_policy import RedisPolicy

MAX_KEYS = 100_000
"""Maximum number of buckets that one process keeps in memory."""

# The time is that of Redis, because the clocks of the processes differ. KEYS: the buckets. ARGV: the number of tokens
# to take; 1 if tokens are taken even if there are fewer, which leaves a debt; then for each bucket its capacity and its
# refill per second. Returns the seconds until all buckets have enough tokens or, with a debt, until all have one token
# again; 0 if there is no need to wait. A key with any other content is replaced by a full bucket.
_SCRIPT = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local cost, may_owe, wait, tokens = tonumber(ARGV[1]), ARGV[2] == '1', 0, {}
for i, key in ipairs(KEYS) do
    local capacity, refill = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
    local kept = redis.pcall('HMGET', key, 'tokens', 'at')
    if kept.err then redis.call('DEL', key) end
    local had, at = tonumber(kept[1]), tonumber(kept[2])
    tokens[i] = capacity
    if had and at and had >= -capacity and at == at then
        tokens[i] = math.min(capacity, had + math.max(0, now - at) * refill)
    end
    local wanted = may_owe and cost + 1 or cost
    if tokens[i] < wanted then wait = math.max(wait, (wanted - math.max(tokens[i], cost - capacity)) / refill) end
end
if wait > 0 and not may_owe then return tostring(wait) end
for i, key in ipairs(KEYS) do
    local capacity, refill = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
    local left = math.max(-capacity, math.min(capacity, tokens[i] - cost))
    redis.call('HSET', key, 'tokens', left, 'at', now)
    redis.call('PEXPIRE', key, math.ceil((capacity - left) / refill * 1000))
end
return tostring(wait)
"""


class TokenBucket:
    """A token bucket: it starts with ``capacity`` tokens, and an empty bucket is full again after ``seconds``."""

    __slots__ = ("capacity", "refilled_at", "seconds", "tokens")

    def __init__(self, capacity: float, seconds: float) -> None:
        self.capacity = self.tokens = float(capacity)
        self.seconds = seconds
        self.refilled_at: float | None = None

    def wait(self, now: float, cost: float = 1) -> float:
        """Refill the bucket and return the seconds until it has ``cost`` tokens; 0 or less if it has them."""
        if self.refilled_at is not None:
            refill = (now - self.refilled_at) * self.capacity / self.seconds
            self.tokens = min(self.capacity, self.tokens + refill)
        self.refilled_at = now
        return (cost - self.tokens) * self.seconds / self.capacity

    def consume(self, now: float, cost: float = 1) -> bool:
        """Take ``cost`` tokens and return True; return False if the bucket has fewer."""
        if self.wait(now, cost) > 0:
            return False
        self.tokens -= cost
        return True

    def refund(self, cost: float = 1) -> None:
        """Put tokens back that were taken."""
        self.tokens = min(self.capacity, self.tokens + cost)

    def resize(self, capacity: float) -> None:
        """Change the capacity; the number of used tokens stays the same."""
        self.tokens += capacity - self.capacity
        self.capacity = float(capacity)


class RateLimitKey(NamedTuple):
    """The name of a token bucket, its capacity in tokens, and the seconds in which an empty bucket is full again."""

    name: str
    capacity: int
    seconds: float


class TokenBucketStore(Protocol):
    """Token buckets by key."""

    async def consume(self, keys: Sequence[RateLimitKey]) -> float:
        """Take one token from each bucket, or none if a bucket is empty.

        Returns:
            0 if the tokens were taken; otherwise the seconds until each bucket has a token.

        Raises:
            ServiceUnavailable: Redis is unavailable.
        """

    async def refund(self, keys: Sequence[RateLimitKey]) -> None:
        """Put one token back into each bucket. While Redis is unavailable, nothing happens."""


class MemoryTokenBuckets:
    """Token buckets in the memory of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    async def consume(self, keys: Sequence[RateLimitKey]) -> float:
        now = self._clock()
        buckets = [self._bucket(key) for key in keys]
        wait = max((bucket.wait(now) for bucket in buckets), default=0.0)
        for key, bucket in zip(keys, buckets, strict=True):
            if wait <= 0:
                bucket.tokens -= 1
                self._buckets[key.name] = bucket
            if key.name in self._buckets:
                self._buckets.move_to_end(key.name)
        if wait > 0:
            return wait
        while len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return 0.0

    async def refund(self, keys: Sequence[RateLimitKey]) -> None:
        for key in keys:
            bucket = self._buckets.get(key.name)
            if bucket is not None:
                bucket.refund()

    def _bucket(self, key: RateLimitKey) -> TokenBucket:
        bucket = self._buckets.get(key.name)
        if bucket is None:
            return TokenBucket(key.capacity, key.seconds)
        if bucket.capacity != key.capacity:
            bucket.resize(key.capacity)
        return bucket


class RedisTokenBuckets:
    """Token buckets in Redis, shared by all processes that use it."""

    def __init__(self, redis: RedisPolicy) -> None:
        self._redis = redis

    async def consume(self, keys: Sequence[RateLimitKey]) -> float:
        return await self._redis.refuse(lambda redis: self._change(redis, keys, 1))

    async def refund(self, keys: Sequence[RateLimitKey]) -> None:
        await self._redis.bypass(lambda redis: self._change(redis, keys, -1), 0.0)

    async def charge(self, charges: Sequence[tuple[RateLimitKey, int]]) -> list[float] | None:
        """Take tokens for requests that were already admitted, even if a bucket has fewer tokens.

        The debt of a bucket is at most its capacity.

        Args:
            charges: Buckets and the number of tokens to take.

        Returns:
            For each bucket the seconds until it has a token again, 0 if it has one; None while Redis is unavailable.
        """
        return await self._redis.local(lambda redis: self._charge(redis, charges), _not_charged)

    async def _change(self, redis: Redis, keys: Sequence[RateLimitKey], cost: int) -> float:
        # A Redis cluster selects the server by the text in braces; all keys of one script must be on one server.
        names = [f"limits:{{attempts}}:{key.name}" for key in keys]
        return float(await redis.register_script(_SCRIPT)(keys=names, args=_arguments(keys, cost, may_owe=False)))

    async def _charge(self, redis: Redis, charges: Sequence[tuple[RateLimitKey, int]]) -> list[float] | None:
        script = redis.register_script(_SCRIPT)
        async with redis.pipeline(transaction=False) as pipeline:
            for key, cost in charges:
                await script(
                    keys=[f"limits:rate:{key.name}"], args=_arguments((key,), cost, may_owe=True), client=pipeline
                )
            return [float(wait) for wait in await pipeline.execute()]


def _arguments(keys: Sequence[RateLimitKey], cost: int, *, may_owe: bool) -> list[float]:
    return [cost, int(may_owe), *(number for key in keys for number in (key.capacity, key.capacity / key.seconds))]


async def _not_charged() -> None:
    return None
