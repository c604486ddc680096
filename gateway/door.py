"""Where connections come in: so that thousands at one moment hold up nobody who asks something meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import SupportsIndex

_AT_ONCE = 8
_LONG_TURN_SECONDS = 0.01


class Door:
    """Lets a few in in each turn of the event loop, the newest first, and hardly any while turns are long.

    So they are taken up as fast as they can be served, and turns stay short.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[object, Callable[[], None]] = {}
        self._is_open = False
        self._opened_at = 0.0

    def let_in(self, who: object, begin: Callable[[], None]) -> None:
        """Have it called when it is its turn."""
        self._waiting[who] = begin
        if not self._is_open:
            self._is_open = True
            self._opened_at = self._loop.time()
            self._loop.call_soon(self._open)

    def let_pass(self, who: object) -> None:
        """Do not let them wait."""
        begin = self._waiting.pop(who, None)
        if begin is not None:
            begin()

    def _open(self) -> None:
        turn, self._opened_at = self._loop.time() - self._opened_at, self._loop.time()
        for _ in range(min(_AT_ONCE if turn < _LONG_TURN_SECONDS else 1, len(self._waiting))):
            _, begin = self._waiting.popitem()
            begin()
        self._is_open = bool(self._waiting)
        if self._is_open:
            self._loop.call_soon(self._open)


class Arrival(asyncio.StreamReader):
    """What a connection brings. Whoever comes for an answer, as a load balancer does, passes those who come to stay."""

    def __init__(self, door: Door, *, limit: int) -> None:
        super().__init__(limit=limit, loop=asyncio.get_running_loop())
        self._door = door
        self._has_asked = False

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        super().feed_data(data)
        if not self._has_asked:
            self._has_asked = True
            if b"upgrade: websocket" not in bytes(data).lower():
                self._door.let_pass(self)
