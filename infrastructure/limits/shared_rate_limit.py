"""Rate limits that cost a request no round trip: decided in this process, counted by all processes in the background.

What this process has admitted is charged, in the background, to a token bucket in Redis. A key whose bucket there is
empty is refused here until it has a token again. Without Redis, or while it is unavailable, each process goes on by its
own count (local).
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
_REPORT_INTERVAL_SECONDS = 0.5
"""While Redis is unavailable."""
_GATHER_SECONDS = 0.02
_UNREPORTED_DIVISOR = 50
"""A process keeps to itself up to a fiftieth of what a key may do in a minute."""
_BATCH_SIZE = 500


class SharedRateLimiter:
    """One a process. Limits are requests a minute for each key.

    An operation costs the same however many keys there are: keys are ordered by their last use, the oldest are
    evicted, and a report looks only at keys that have something to report.
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
        """How many keys were examined in all: the work of the limiter."""

    def __len__(self) -> int:
        return len(self._counts)

    def has_room(self, key: str, limit: int) -> bool:
        """Whether one more would be admitted."""
        count = self._counts.get(key)
        return count is None or count.wait(limit, self._clock()) <= 0

    def consume(self, key: str, limit: int) -> float:
        """Count one more and return 0, or return the seconds until there is room for it."""
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
        if self._is_shared and count.has_much_to_report:
            self._due[key] = count
            self._changed.set()
        return 0.0

    @asynccontextmanager
    async def shared(self, redis: RedisPolicy | None) -> AsyncIterator[None]:
        """Count together with the other processes at that Redis while the block runs."""
        if redis is None:
            yield
            return
        self._is_shared = True
        buckets = RedisTokenBuckets(redis)
        async with supervised(lambda: self._report_regularly(buckets), name="report admitted requests"):
            yield

    def _evict(self, now: float) -> None:
        """Forget keys that were not used for a minute, whose buckets are full, and beyond the bound the oldest one."""
        for _ in range(2):
            key, count = next(iter(self._counts.items()))
            self.visits += 1
            is_idle = count.bucket.refilled_at is not None and now - count.bucket.refilled_at > _MINUTE_SECONDS
            if not is_idle and len(self._counts) <= self._max_keys:
                return
            del self._counts[key]
            self.evictions += 1

    async def _report_regularly(self, buckets: RedisTokenBuckets) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.sleep(_GATHER_SECONDS if await self._report(buckets) else _REPORT_INTERVAL_SECONDS)
            if self._due:
                self._changed.set()

    async def _report(self, buckets: RedisTokenBuckets) -> bool:
        """Report the keys that have used most. Return whether Redis was available."""
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
    """What one key has used here, and how much of that the other processes do not know yet."""

    __slots__ = ("blocked_until", "bucket", "unreported")

    def __init__(self, limit: int) -> None:
        self.bucket = TokenBucket(limit, _MINUTE_SECONDS)
        self.unreported = 0
        self.blocked_until = 0.0

    @property
    def has_much_to_report(self) -> bool:
        return self.unreported > self.bucket.capacity // _UNREPORTED_DIVISOR

    def wait(self, limit: int, now: float) -> float:
        """Return the seconds until there is room for one more; 0 or less where there is."""
        if limit != self.bucket.capacity:  # the tenant's tier was learnt, or is another now
            self.bucket.resize(limit)
            self.blocked_until = 0.0
        return max(self.blocked_until - now, self.bucket.wait(now))
