"""How many history long-polls a process may hold at once, and how fast it describes what it may not poll.

Temporal's frontend allows a namespace 1,200 long-polls an instance and refuses the next (``frontend.namespaceCount``),
and 2,400 requests a second in all (``frontend.namespaceRPS``). What goes beyond is described at an interval, by turns.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

LONG_POLLS = 500
"""A process's share of the namespace's 1,200."""
DESCRIBES_PER_SECOND = 100.0
LOOKS_PER_SECOND = 20.0
"""Descriptions of operations that are followed by a long-poll, for what no event tells: heartbeats."""
SHORTEST_INTERVAL_SECONDS = 1.0
_COOL_DOWN_SECONDS = (5.0, 15.0)


class Budget:
    """Shared by all watchers of a process."""

    def __init__(self, *, long_polls: int = LONG_POLLS, describes_per_second: float = DESCRIBES_PER_SECOND) -> None:
        self._free = long_polls
        self._describes_per_second = describes_per_second
        self._cool_until = 0.0
        self.described = 0
        """How many watchers describe at the moment."""
        self._looking = 0

    def take(self) -> bool:
        """A long-poll to hold, where one is free and Temporal has not just refused one."""
        if self._free <= 0 or time.monotonic() < self._cool_until:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        self._free += 1

    def refused(self) -> None:
        """Temporal allows no more for now: nobody begins another for some seconds, jittered so that replicas part."""
        self._cool_until = time.monotonic() + random.uniform(*_COOL_DOWN_SECONDS)  # noqa: S311 - jitter, not a secret

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
        """Seconds between two descriptions of one operation."""
        return max(SHORTEST_INTERVAL_SECONDS, self.described / self._describes_per_second)
