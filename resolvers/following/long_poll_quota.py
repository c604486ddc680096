"""Quota of one process for the calls to Temporal that follow operations: long-polls and describe calls.

Temporal's frontend allows 1,200 long-polls per namespace and instance and rejects further ones
(``frontend.namespaceCount``), and 2,400 requests per second in total (``frontend.namespaceRPS``).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

MAX_LONG_POLLS = 500
"""Maximum number of concurrent long-polls of one process, out of the namespace's 1,200."""
MAX_DESCRIBES_PER_SECOND = 100.0
"""Maximum rate of describe calls at an interval while no change notifications arrive."""
MAX_CHECKS_PER_SECOND = 25.0
"""Maximum rate of describe calls at an interval while change notifications arrive (2 to 4 ms of CPU each)."""
MAX_READS_PER_SECOND = 300.0
"""Maximum rate of all describe calls, not counting the first one of each operation."""
MAX_CONCURRENT_READS = 16
"""Maximum number of concurrent describe calls."""
MAX_HEARTBEAT_POLLS_PER_SECOND = 20.0
"""Maximum rate of describe calls that read heartbeats, which the history of a workflow does not contain."""
MIN_INTERVAL_SECONDS = 1.0
"""Minimum interval between two describe calls of one operation while no change notifications arrive."""
CHECK_INTERVAL_SECONDS = 5.0
"""Minimum interval between two describe calls of one operation while change notifications arrive; one may be lost."""
_COOL_DOWN_RANGE_SECONDS = (5.0, 15.0)
"""Range of the random time without new long-polls after Temporal has rejected one."""


class LongPollQuota:
    """Quota for long-polls and rate limits for describe calls, shared by all watchers of one process."""

    def __init__(
        self,
        *,
        max_long_polls: int = MAX_LONG_POLLS,
        describes_per_second: float = MAX_DESCRIBES_PER_SECOND,
        check_interval_seconds: float = CHECK_INTERVAL_SECONDS,
    ) -> None:
        self._available = max_long_polls
        self._describes_per_second = describes_per_second
        self._check_interval_seconds = check_interval_seconds
        self._cool_until = 0.0
        self.watchers_without_long_poll = 0
        """Number of watchers that currently follow their operation without a long-poll."""
        self._heartbeat_pollers = 0
        self._concurrent_reads = asyncio.Semaphore(MAX_CONCURRENT_READS)
        self._rate_lock = asyncio.Lock()
        self._next_read_at = 0.0

    @property
    def is_long_poll_available(self) -> bool:
        """Whether a long-poll may start: the quota is not used up, and Temporal has not just rejected one."""
        return self._available > 0 and time.monotonic() >= self._cool_until

    def acquire(self) -> bool:
        """Reserve a long-poll if one is available; return whether it was reserved."""
        if not self.is_long_poll_available:
            return False
        self._available -= 1
        return True

    def release(self) -> None:
        """Return a reserved long-poll to the quota."""
        self._available += 1

    def cool_down(self) -> None:
        """Start no further long-poll for some seconds, because Temporal rejected one; jitter separates replicas."""
        self._cool_until = time.monotonic() + random.uniform(*_COOL_DOWN_RANGE_SECONDS)  # noqa: S311 - jitter, not a secret

    @contextmanager
    def without_long_poll(self) -> Iterator[None]:
        """Count one more watcher without a long-poll while the block runs."""
        self.watchers_without_long_poll += 1
        try:
            yield
        finally:
            self.watchers_without_long_poll -= 1

    @asynccontextmanager
    async def read_slot(self, *, is_first: bool) -> AsyncIterator[None]:
        """Wait until a describe call is allowed, and hold a slot for it while the block runs.

        The first call for an operation (``is_first``) is not delayed by the rate limit.
        """
        if not is_first:
            async with self._rate_lock:  # a watcher that is cancelled while it waits consumes no read
                await asyncio.sleep(self._next_read_at - time.monotonic())
                self._next_read_at = max(time.monotonic(), self._next_read_at + 1 / MAX_READS_PER_SECOND)
        async with self._concurrent_reads:
            yield

    @contextmanager
    def polling_heartbeats(self) -> Iterator[None]:
        """Count one more watcher that polls heartbeats while the block runs."""
        self._heartbeat_pollers += 1
        try:
            yield
        finally:
            self._heartbeat_pollers -= 1

    def heartbeat_poll_interval(self, wanted: float) -> float:
        """Return the seconds until the next heartbeat poll: at least ``wanted``, or more to keep the maximum rate."""
        shared = self._heartbeat_pollers / MAX_HEARTBEAT_POLLS_PER_SECOND
        return wanted if shared <= wanted else shared * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret

    @property
    def interval(self) -> float:
        """Seconds between two describe calls of one operation while no change notifications arrive."""
        return max(MIN_INTERVAL_SECONDS, self.watchers_without_long_poll / self._describes_per_second)

    @property
    def check_interval(self) -> float:
        """Seconds between two describe calls of one operation while change notifications arrive; one may be lost."""
        return max(self._check_interval_seconds, self.watchers_without_long_poll / MAX_CHECKS_PER_SECOND)
