"""Deadlines that count the time that others take, and not that for which this process is too busy to look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_TURNS = 10


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """TimeoutError where the block takes longer.

    The time is counted in ten parts, each by a turn of the event loop of its own: an answer that has come while the
    loop was busy for long is taken before the time is up. In a burst of requests ``asyncio.timeout`` gives it up.
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
