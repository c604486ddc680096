"""The registry of long-lived connections (websockets and event streams): keepalive checks, and drain before a stop."""

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

_CHECK_INTERVAL_SECONDS = 0.5
_DRAIN_BATCHES = 20
_MIN_BATCH_SIZE = 25


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
    """A websocket or an event stream."""

    def check_liveness(self, now: float) -> None:
        """Send a ping or heartbeat if it is due, or close the connection if the peer is unresponsive.

        Args:
            now: the time of the event loop. The registry calls this method about twice a second.
        """

    async def close_for_restart(self) -> None:
        """Close the connection in a way that makes its client reconnect, to another replica."""


class ConnectionRegistry:
    """The long-lived connections of this process."""

    def __init__(self) -> None:
        self._open: set[LongLivedConnection] = set()
        self._tasks = BackgroundTasks()
        self._cycle_collector = CycleCollector()
        self.is_stopping = False
        """Whether ``drain`` has been called."""

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def register(self, connection: LongLivedConnection) -> Iterator[None]:
        """Register the connection while the block runs; close it for a restart at once if the process is stopping."""
        self._open.add(connection)
        if self.is_stopping:
            self.start(connection.close_for_restart())
        try:
            yield
        finally:
            self._open.discard(connection)
            self._cycle_collector.count_closed()

    def start(self, work: Coroutine[object, object, None]) -> None:
        """Run the coroutine as a background task."""
        self._tasks.start(work, name="serve a long-lived connection")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Check the liveness of the connections while the block runs; cancel the background tasks after it."""
        async with self._tasks, supervised(self._check_periodically, name="check long-lived connections"):
            yield

    async def drain(self, seconds: float) -> None:
        """Close all connections for a restart within ``seconds``.

        They are closed in batches at random intervals, so that the clients do not all reconnect at the same time.
        """
        self.is_stopping = True
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        remaining = list(self._open)
        random.shuffle(remaining)
        size = max(_MIN_BATCH_SIZE, ceil(len(remaining) / _DRAIN_BATCHES))
        closing: list[asyncio.Task[None]] = []
        while remaining:
            batch, remaining = remaining[:size], remaining[size:]
            closing += [
                self._tasks.start(connection.close_for_restart(), name="close a connection for a restart")
                for connection in batch
            ]
            if remaining:
                pause = 0.8 * seconds / _DRAIN_BATCHES * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, not a secret
                await asyncio.sleep(min(pause, max(0.0, end - loop.time())))
        if closing:
            await asyncio.wait(closing, timeout=max(0.1, end - loop.time()))

    async def _check_periodically(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_CHECK_INTERVAL_SECONDS)
            now = loop.time()
            for connection in tuple(self._open):
                connection.check_liveness(now)
            self._cycle_collector.collect_if_due(len(self._open))
