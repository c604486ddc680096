"""What a peer sends, queued for the application: bounded, and dropped once the application has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.config import Config
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

_DISCONNECTS = ("http.disconnect", "websocket.disconnect")


class BoundedReceiveQueue(asyncio.Queue[ASGIReceiveEvent]):
    """``put`` waits for room, or until the application has ended and takes nothing any more.

    A disconnect needs no room: the server itself puts it when the application has answered.
    """

    def __init__(self, max_events: int) -> None:
        super().__init__()
        self._max_events = max_events
        self._is_open = True
        self._room = asyncio.Event()

    async def put(self, item: ASGIReceiveEvent) -> None:
        while self._is_open and self.qsize() >= self._max_events and item["type"] not in _DISCONNECTS:
            self._room.clear()
            await self._room.wait()
        if self._is_open:
            self.put_nowait(item)

    async def get(self) -> ASGIReceiveEvent:
        item = await super().get()
        self._room.set()
        return item

    def close(self) -> None:
        self._is_open = False
        self._room.set()


class AppTaskGroup(TaskGroup):
    """Gives each application a queue that closes with it.

    hypercorn's own queue is full for ever if an application answers before it has read all that was sent.
    """

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        queue = BoundedReceiveQueue(config.max_app_queue_size)

        async def run(scope: Scope, _receive: object, *others: object) -> None:
            try:
                await app(scope, queue.get, *others)  # type: ignore[arg-type]
            finally:
                queue.close()

        await super().spawn_app(run, config, scope, send)  # type: ignore[arg-type]
        return queue.put
