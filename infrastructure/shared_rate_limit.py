"""Rate limits that cost a request no round trip: decided in this process, counted by all processes in the background.

What this process has admitted is added, in the background, to a sliding window in Redis (``limits``). A key that is
over its limit there is refused here until the window has room again. Without Redis, or while it is away, each process
goes on by its own count.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import islice

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError, ResponseError

from infrastructure.change_notifications import woken
from infrastructure.rate_limit import MAX_KEYS, TokenBucket
from infrastructure.tasks import concurrently, supervised

_MINUTE_SECONDS = 60.0
_REPORT_INTERVAL_SECONDS = 0.5
_GATHER_SECONDS = 0.02
_UNREPORTED_DIVISOR = 50
"""A process keeps to itself up to a fiftieth of what a key may do in a minute."""
_DEADLINE_SECONDS = 1.0
_UNAVAILABLE_SECONDS = 5.0
_BATCH_SIZE = 500
_MAX_CONNECTIONS = 4

log = structlog.get_logger()


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
        self._postponed: list[tuple[float, str]] = []
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
        if self._is_shared and count.has_much_to_report and not count.is_postponed:
            self._due[key] = count
            self._changed.set()
        return 0.0

    @asynccontextmanager
    async def shared(self, redis_url: str | None) -> AsyncIterator[None]:
        """Count together with the other processes at that Redis while the block runs."""
        if redis_url is None:
            yield
            return
        self._is_shared = True
        async with (
            _shared_window(redis_url) as window,
            supervised(lambda: self._report_regularly(window), name="report admitted requests"),
        ):
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

    async def _report_regularly(self, window: SlidingWindowCounterRateLimiter) -> None:
        pause = _GATHER_SECONDS
        while True:
            await asyncio.sleep(pause)
            await woken(self._changed, _REPORT_INTERVAL_SECONDS)
            self._changed.clear()
            pause = _GATHER_SECONDS
            try:
                async with asyncio.timeout(_DEADLINE_SECONDS):
                    await self._report(window)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("rate_limit_unavailable", mode="local", error=repr(error))
                pause = _UNAVAILABLE_SECONDS

    async def _report(self, window: SlidingWindowCounterRateLimiter) -> None:
        now = self._clock()
        while self._postponed and self._postponed[0][0] <= now:
            key = heapq.heappop(self._postponed)[1]
            count = self._counts.get(key)
            if count is not None and count.is_postponed:
                count.is_postponed = False
                self._due[key] = count
        batch = list(islice(self._due.items(), _BATCH_SIZE))
        errors = await concurrently(*(self._try_to_report(window, key, count) for key, count in batch))
        for error in errors:
            if error is not None:
                raise error
        if self._due:
            self._changed.set()

    async def _try_to_report(
        self, window: SlidingWindowCounterRateLimiter, key: str, count: _Count
    ) -> RedisError | OSError | None:
        """Report one key. Return why Redis did not answer; what it holds under one key is no reason to stop."""
        try:
            await self._report_one(window, key, count)
        except ResponseError as error:
            log.error("rate_limit_not_reported", key=key, error=repr(error))
            del self._due[key]
        except (RedisError, OSError) as error:
            return error
        return None

    async def _report_one(self, window: SlidingWindowCounterRateLimiter, key: str, count: _Count) -> None:
        self.visits += 1
        spent, limit = count.unreported, int(count.bucket.capacity)
        if await window.hit(RateLimitItemPerMinute(limit), key, cost=min(spent, limit)):
            count.unreported -= spent
            count.blocked_until = 0.0
        else:  # block the key for as long as the window needs for what was used beyond the limit
            count.blocked_until = self._clock() + max(1.0, spent * _MINUTE_SECONDS / limit)
            count.is_postponed = True
            heapq.heappush(self._postponed, (count.blocked_until - _REPORT_INTERVAL_SECONDS, key))
        del self._due[key]


class _Count:
    """What one key has used here, and how much of that the other processes do not know yet."""

    __slots__ = ("blocked_until", "bucket", "is_postponed", "unreported")

    def __init__(self, limit: int) -> None:
        self.bucket = TokenBucket(limit, _MINUTE_SECONDS)
        self.unreported = 0
        self.blocked_until = 0.0
        self.is_postponed = False

    @property
    def has_much_to_report(self) -> bool:
        return self.unreported > self.bucket.capacity // _UNREPORTED_DIVISOR

    def wait(self, limit: int, now: float) -> float:
        """Return the seconds until there is room for one more; 0 or less where there is."""
        if limit != self.bucket.capacity:  # the tenant's tier was learnt, or is another now
            self.bucket.resize(limit)
            self.blocked_until = 0.0
        return max(self.blocked_until - now, self.bucket.wait(now))


@asynccontextmanager
async def _shared_window(redis_url: str) -> AsyncIterator[SlidingWindowCounterRateLimiter]:
    """Yield the window that all processes at that Redis share, connected at first use."""
    pool = BlockingConnectionPool.from_url(redis_url, max_connections=_MAX_CONNECTIONS, timeout=_DEADLINE_SECONDS)
    try:
        storage = RedisStorage(
            redis_url,
            implementation="redispy",
            key_prefix="requests",
            connection_pool=pool,  # type: ignore[arg-type] # it is handed on as it is
        )
        yield SlidingWindowCounterRateLimiter(storage)
    finally:
        with suppress(RedisError, OSError):
            await pool.aclose()
