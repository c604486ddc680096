"""How many history long-polls a process may hold at once, and how fast it describes operations without a long-poll.

Temporal's frontend allows a namespace 1,200 long-polls an instance and refuses the next (``frontend.namespaceCount``),
and 2,400 requests a second in all (``frontend.namespaceRPS``).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

MAX_LONG_POLLS = 500
"""A process's share of the namespace's 1,200."""
DESCRIBES_PER_SECOND = 100.0
"""Descriptions at an interval, where no change notifications arrive."""
CHECKS_PER_SECOND = 25.0
"""Descriptions at an interval, where change notifications arrive. Each costs Temporal 2 to 4 ms of processor time."""
MAX_READS_PER_SECOND = 300.0
"""Descriptions in all, except the first one of each operation."""
MAX_CONCURRENT_READS = 16
LOOKS_PER_SECOND = 20.0
"""Descriptions of operations that are followed by a long-poll, for what no event tells: heartbeats."""
SHORTEST_INTERVAL_SECONDS = 1.0
CHECK_SECONDS = 5.0
"""The shortest interval where change notifications arrive, because one may be lost."""
_COOL_DOWN_SECONDS = (5.0, 15.0)


class LongPollQuota:
    """Shared by all watchers of a process."""

    def __init__(
        self,
        *,
        max_long_polls: int = MAX_LONG_POLLS,
        describes_per_second: float = DESCRIBES_PER_SECOND,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._free = max_long_polls
        self._describes_per_second = describes_per_second
        self._check_seconds = check_seconds
        self._cool_until = 0.0
        self.described = 0
        """How many watchers follow without a long-poll at the moment."""
        self._looking = 0
        self._concurrent_reads = asyncio.Semaphore(MAX_CONCURRENT_READS)
        self._turn = asyncio.Lock()
        self._next_read = 0.0

    @property
    def has_long_poll(self) -> bool:
        """Whether a long-poll is free, and Temporal has not just refused one."""
        return self._free > 0 and time.monotonic() >= self._cool_until

    def take(self) -> bool:
        """Take a long-poll if there is one; whether there was."""
        if not self.has_long_poll:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        self._free += 1

    def refused(self) -> None:
        """Temporal allows no more for now: nobody begins another for some seconds, jittered so that replicas part."""
        self._cool_until = time.monotonic() + random.uniform(*_COOL_DOWN_SECONDS)  # noqa: S311 - jitter, not a secret

    @contextmanager
    def describing(self) -> Iterator[None]:
        """While the block runs one more operation is followed without a long-poll."""
        self.described += 1
        try:
            yield
        finally:
            self.described -= 1

    @asynccontextmanager
    async def reading(self, *, is_first: bool) -> AsyncIterator[None]:
        """Describe an operation in the block, in turn with the other watchers. The first read of one is not delayed."""
        if not is_first:
            async with self._turn:  # a watcher that is cancelled while it waits for its turn uses none
                await asyncio.sleep(self._next_read - time.monotonic())
                self._next_read = max(time.monotonic(), self._next_read + 1 / MAX_READS_PER_SECOND)
        async with self._concurrent_reads:
            yield

    @contextmanager
    def looking(self) -> Iterator[None]:
        """While the block runs one more operation is looked in on."""
        self._looking += 1
        try:
            yield
        finally:
            self._looking -= 1

    def look_seconds(self, wanted: float) -> float:
        """The pause before the next look, at least as long as wanted: all looks together keep to their share."""
        shared = self._looking / LOOKS_PER_SECOND
        return wanted if shared <= wanted else shared * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret

    @property
    def interval(self) -> float:
        """Seconds between two descriptions of one operation without change notifications."""
        return max(SHORTEST_INTERVAL_SECONDS, self.described / self._describes_per_second)

    @property
    def check_interval(self) -> float:
        """Seconds between two descriptions of one operation with change notifications, of which one may be lost."""
        return max(self._check_seconds, self.described / CHECKS_PER_SECOND)
