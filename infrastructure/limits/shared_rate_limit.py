"""Rate limits without a round trip per request: each process decides by itself and reports its counts to Redis.

Admitted requests are charged to a token bucket in Redis in the background. If the bucket of a key is empty there, this
process refuses requests of the key until the bucket has a token again. Without Redis, or while Redis is unavailable,
each process enforces the limits by its own counts (local).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice

from infrastructure.limits.rate_limit import MAX_KEYS, RateLimitKey, RedisTokenBuckets, TokenBucket
from infrastructure.redis_policy import RedisPolicy
from infrastructure.tasks import supervised

_MINUTE_SECONDS = 60.0
_RETRY_INTERVAL_SECONDS = 0.5
"""Interval of reports while Redis is unavailable."""
_COALESCE_SECONDS = 0.02
_UNREPORTED_DIVISOR = 50
"""A process reports a key after more than a fiftieth of the key's limit has been used."""
_BATCH_SIZE = 500


class SharedRateLimiter:
    """Limits requests per minute and key, shared with the other processes; each process has one instance.

    Each operation takes constant time: keys are ordered by their last use, the least recently used ones are evicted,
    and a report visits only keys with unreported requests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._counts: OrderedDict[str, _Count] = OrderedDict()
        self._due: dict[str, _Count] = {}
        self._changed = asyncio.Event()
        self._is_shared = False
        self.evictions = 0
        self.visits = 0
        """Number of keys that were examined since the start; a measure of the limiter's work."""

    def __len__(self) -> int:
        return len(self._counts)

    def has_room(self, key: str, limit: int) -> bool:
        """Return whether ``consume`` would admit a request."""
        count = self._counts.get(key)
        return count is None or count.wait(limit, self._clock()) <= 0

    def consume(self, key: str, limit: int) -> float:
        """Count a request and return 0, or return the seconds until the key may send a request again.

        Args:
            key: Whose requests are counted.
            limit: Requests per minute; a change takes effect at once.
        """
        now = self._clock()
        self.visits += 1
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = self._due.get(key) or _Count(limit)
            self._evict(now)
        else:
            self._counts.move_to_end(key)
        wait = count.wait(limit, now)
        if wait > 0:
            return wait
        count.bucket.tokens -= 1
        count.unreported += 1
        if self._is_shared and count.needs_report:
            self._due[key] = count
            self._changed.set()
        return 0.0

    @asynccontextmanager
    async def shared(self, redis: RedisPolicy | None) -> AsyncIterator[None]:
        """Exchange counts with the other processes that use this Redis while the block runs; None: count locally."""
        if redis is None:
            yield
            return
        self._is_shared = True
        buckets = RedisTokenBuckets(redis)
        async with supervised(lambda: self._report_continuously(buckets), name="report admitted requests"):
            yield

    def _evict(self, now: float) -> None:
        """Evict up to two keys: those unused for a minute, and the least recently used ones beyond ``max_keys``."""
        for _ in range(2):
            key, count = next(iter(self._counts.items()))
            self.visits += 1
            is_idle = count.bucket.refilled_at is not None and now - count.bucket.refilled_at > _MINUTE_SECONDS
            if not is_idle and len(self._counts) <= self._max_keys:
                return
            del self._counts[key]
            self.evictions += 1

    async def _report_continuously(self, buckets: RedisTokenBuckets) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.sleep(_COALESCE_SECONDS if await self._report(buckets) else _RETRY_INTERVAL_SECONDS)
            if self._due:
                self._changed.set()

    async def _report(self, buckets: RedisTokenBuckets) -> bool:
        """Report a batch of keys that exceed their unreported share. Return whether Redis was available."""
        batch = list(islice(self._due.items(), _BATCH_SIZE))
        charges = [
            (RateLimitKey(key, int(count.bucket.capacity), _MINUTE_SECONDS), count.unreported) for key, count in batch
        ]
        waits = await buckets.charge(charges)
        if waits is None:
            return False
        now = self._clock()
        for (key, count), (_, cost), wait in zip(batch, charges, waits, strict=True):
            self.visits += 1
            count.unreported -= cost
            count.blocked_until = now + wait if wait > 0 else 0.0
            del self._due[key]
        return True


class _Count:
    """The requests of one key in this process, and the number of them that have not been reported to Redis."""

    __slots__ = ("blocked_until", "bucket", "unreported")

    def __init__(self, limit: int) -> None:
        self.bucket = TokenBucket(limit, _MINUTE_SECONDS)
        self.unreported = 0
        self.blocked_until = 0.0

    @property
    def needs_report(self) -> bool:
        """Whether more requests are unreported than a process may keep to itself."""
        return self.unreported > self.bucket.capacity // _UNREPORTED_DIVISOR

    def wait(self, limit: int, now: float) -> float:
        """Return the seconds until a request is admitted; 0 or less if it is admitted now."""
        if limit != self.bucket.capacity:  # the tenant's tier was not known before, or has changed
            self.bucket.resize(limit)
            self.blocked_until = 0.0
        return max(self.blocked_until - now, self.bucket.wait(now))
