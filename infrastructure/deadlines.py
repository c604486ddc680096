"""A deadline for a call of another process that does not expire because the event loop of this process is busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_TURNS = 10


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError if the block takes longer.

    The time is divided into ten timers, each of which starts after the one before: a response that arrived while the
    event loop was busy is read before the deadline expires. In a burst ``asyncio.timeout`` would discard it.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def turn(left: int) -> asyncio.TimerHandle:
        return loop.call_later(seconds / _TURNS, end_of_turn, left)

    def end_of_turn(left: int) -> None:
        nonlocal timer
        if left:
            timer = turn(left - 1)
        else:
            timeout.reschedule(loop.time())

    async with asyncio.timeout(None) as timeout:
        timer = turn(_TURNS - 1)
        try:
            yield
        finally:
            timer.cancel()
