"""What a peer sends, on its way to the application: a little ahead of it, and dropped once it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.config import Config
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

_LAST_WORDS = ("http.disconnect", "websocket.disconnect")


class Inbox(asyncio.Queue[ASGIReceiveEvent]):
    """Whoever puts something into a full one waits until there is room, or until nobody will take anything any more.

    That the peer is gone needs no room: the application itself says so when it has answered.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._is_open = True
        self._room = asyncio.Event()

    async def put(self, item: ASGIReceiveEvent) -> None:
        while self._is_open and self.qsize() >= self._most and item["type"] not in _LAST_WORDS:
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


class Applications(TaskGroup):
    """As hypercorn's, which would wait for ever where an application answers before it has read what was sent."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        inbox = Inbox(config.max_app_queue_size)

        async def run(scope: Scope, _receive: object, *others: object) -> None:
            try:
                await app(scope, inbox.get, *others)  # type: ignore[arg-type]
            finally:
                inbox.close()

        await super().spawn_app(run, config, scope, send)  # type: ignore[arg-type]
        return inbox.put
