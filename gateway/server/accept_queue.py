"""The accept queue: starts new connections gradually, so that thousands at once do not delay other requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import SupportsIndex

_MAX_STARTS_PER_ITERATION = 8
_MAX_ITERATION_SECONDS = 0.01


class AcceptQueue:
    """Starts up to eight connections per iteration of the event loop, the newest first.

    While iterations take longer than 10 ms, the queue starts one connection per iteration. In this way connections
    start as fast as the process can serve them, and the event loop remains responsive.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[object, Callable[[], None]] = {}
        self._is_scheduled = False
        self._iteration_started_at = 0.0

    def enqueue(self, connection: object, start: Callable[[], None]) -> None:
        """Add the connection to the queue; the queue calls ``start`` when it starts the connection."""
        self._waiting[connection] = start
        if not self._is_scheduled:
            self._is_scheduled = True
            self._iteration_started_at = self._loop.time()
            self._loop.call_soon(self._start_next)

    def promote(self, connection: object) -> None:
        """Start the connection now, if it is still in the queue."""
        start = self._waiting.pop(connection, None)
        if start is not None:
            start()

    def _start_next(self) -> None:
        elapsed, self._iteration_started_at = self._loop.time() - self._iteration_started_at, self._loop.time()
        for _ in range(min(_MAX_STARTS_PER_ITERATION if elapsed < _MAX_ITERATION_SECONDS else 1, len(self._waiting))):
            _, start = self._waiting.popitem()
            start()
        self._is_scheduled = bool(self._waiting)
        if self._is_scheduled:
            self._loop.call_soon(self._start_next)


class PrioritizedStreamReader(asyncio.StreamReader):
    """The stream reader of one connection, which promotes it in the accept queue if it is not a websocket.

    A plain request, such as the health check of a load balancer, thus precedes waiting websocket handshakes.
    """

    def __init__(self, queue: AcceptQueue, *, limit: int) -> None:
        super().__init__(limit=limit, loop=asyncio.get_running_loop())
        self._queue = queue
        self._has_data = False

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Buffer received data; promote the connection if its first data are not a websocket handshake."""
        super().feed_data(data)
        if not self._has_data:
            self._has_data = True
            if b"upgrade: websocket" not in bytes(data).lower():
                self._queue.promote(self)
