"""The queue of new connections: thousands that arrive at one moment do not delay other requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import SupportsIndex

_MAX_STARTS = 8
"""Connections that start in one iteration of the event loop."""
_LONG_ITERATION_SECONDS = 0.01


class AcceptQueue:
    """Starts a few connections per iteration of the event loop, the newest first, and one while iterations are long.

    So connections start as fast as they can be served, and the iterations stay short.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[object, Callable[[], None]] = {}
        self._is_scheduled = False
        self._iteration_began = 0.0

    def enqueue(self, connection: object, start: Callable[[], None]) -> None:
        """Call ``start`` when it is the connection's turn."""
        self._waiting[connection] = start
        if not self._is_scheduled:
            self._is_scheduled = True
            self._iteration_began = self._loop.time()
            self._loop.call_soon(self._start_some)

    def promote(self, connection: object) -> None:
        """Start the connection now, if it is still waiting."""
        start = self._waiting.pop(connection, None)
        if start is not None:
            start()

    def _start_some(self) -> None:
        elapsed, self._iteration_began = self._loop.time() - self._iteration_began, self._loop.time()
        for _ in range(min(_MAX_STARTS if elapsed < _LONG_ITERATION_SECONDS else 1, len(self._waiting))):
            _, start = self._waiting.popitem()
            start()
        self._is_scheduled = bool(self._waiting)
        if self._is_scheduled:
            self._loop.call_soon(self._start_some)


class PrioritizedStreamReader(asyncio.StreamReader):
    """The bytes of one connection. A plain request, such as a load balancer's health check, overtakes websockets."""

    def __init__(self, queue: AcceptQueue, *, limit: int) -> None:
        super().__init__(limit=limit, loop=asyncio.get_running_loop())
        self._queue = queue
        self._has_data = False

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        super().feed_data(data)
        if not self._has_data:
            self._has_data = True
            if b"upgrade: websocket" not in bytes(data).lower():
                self._queue.promote(self)
