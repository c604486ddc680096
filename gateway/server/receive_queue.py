"""The receive queue of a request: bounded, and closed when its application has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.config import Config
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

_DISCONNECTS = ("http.disconnect", "websocket.disconnect")


class BoundedReceiveQueue(asyncio.Queue[ASGIReceiveEvent]):
    """The ASGI events of one request that its application has not received yet.

    ``put`` waits while the queue is full. A closed queue discards events. A disconnect event is added to a full queue,
    too, because the server puts it after the response.
    """

    def __init__(self, max_events: int) -> None:
        super().__init__()
        self._max_events = max_events
        self._is_open = True
        self._has_room = asyncio.Event()

    async def put(self, item: ASGIReceiveEvent) -> None:
        """Add an event once the queue has room; discard the event if the queue is closed."""
        while self._is_open and self.qsize() >= self._max_events and item["type"] not in _DISCONNECTS:
            self._has_room.clear()
            await self._has_room.wait()
        if self._is_open:
            self.put_nowait(item)

    async def get(self) -> ASGIReceiveEvent:
        """Remove and return the oldest event; wait while the queue is empty."""
        item = await super().get()
        self._has_room.set()
        return item

    def close(self) -> None:
        """Discard later events, and wake the task that waits in ``put``."""
        self._is_open = False
        self._has_room.set()


class AppTaskGroup(TaskGroup):
    """The task group of a connection, which gives each request a receive queue that is closed with its application.

    If an application responds before it has read the whole body, hypercorn's own queue stays full and blocks the
    connection.
    """

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Run the application for one request, and return the function that adds events to its receive queue."""
        queue = BoundedReceiveQueue(config.max_app_queue_size)

        async def run(scope: Scope, _receive: object, *others: object) -> None:
            try:
                await app(scope, queue.get, *others)  # type: ignore[arg-type]
            finally:
                queue.close()

        await super().spawn_app(run, config, scope, send)  # type: ignore[arg-type]
        return queue.put
