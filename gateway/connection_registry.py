"""What stays open in this process, websockets and event streams: tended while it runs, sent elsewhere when it stops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from gateway.server.gc_tuning import CycleCollector
from infrastructure.tasks import BackgroundTasks, supervised

_TEND_SECONDS = 0.5
_BATCHES = 20
_SMALLEST_BATCH = 25


@dataclass(frozen=True)
class KeepAliveSettings:
    """The intervals of the keepalive.

    A ping, or a heartbeat of an event stream, is sent every ``ping_interval_seconds``. A websocket whose peer sends
    nothing for ``pong_timeout_seconds`` after a ping is closed. A connection whose peer reads nothing for
    ``write_timeout_seconds`` is aborted.
    """

    ping_interval_seconds: float = 20.0
    pong_timeout_seconds: float = 10.0
    write_timeout_seconds: float = 30.0


class LongLivedConnection(Protocol):
    def tend(self, now: float) -> None:
        """See to it that somebody is still there; called about twice a second with the event loop's time."""

    async def restart(self) -> None:
        """End it so that its client comes back by itself, at another replica."""


class ConnectionRegistry:
    """One a process."""

    def __init__(self) -> None:
        self._open: set[LongLivedConnection] = set()
        self._tasks = BackgroundTasks()
        self._leftovers = CycleCollector()
        self.stopping = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def including(self, stream: LongLivedConnection) -> Iterator[None]:
        """While the block runs the stream is one of them. One that opens while the process stops ends at once."""
        self._open.add(stream)
        if self.stopping:
            self.start(stream.restart())
        try:
            yield
        finally:
            self._open.discard(stream)
            self._leftovers.add()

    def start(self, work: Coroutine[object, object, None]) -> None:
        """Do it on the side."""
        self._tasks.start(work, name="tend an open stream")

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        async with self._tasks, supervised(self._tend, name="tend open streams"):
            yield

    async def drain(self, seconds: float) -> None:
        """End all within so many seconds, in batches at random distances: not everybody comes back at one moment."""
        self.stopping = True
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        waiting = list(self._open)
        random.shuffle(waiting)
        size = max(_SMALLEST_BATCH, ceil(len(waiting) / _BATCHES))
        ending: list[asyncio.Task[None]] = []
        while waiting:
            batch, waiting = waiting[:size], waiting[size:]
            ending += [self._tasks.start(stream.restart(), name="end an open stream") for stream in batch]
            if waiting:
                pause = 0.8 * seconds / _BATCHES * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, not a secret
                await asyncio.sleep(min(pause, max(0.0, end - loop.time())))
        if ending:
            await asyncio.wait(ending, timeout=max(0.1, end - loop.time()))

    async def _tend(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TEND_SECONDS)
            now = loop.time()
            for stream in tuple(self._open):
                stream.tend(now)
            self._leftovers.clear(len(self._open))
