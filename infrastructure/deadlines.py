"""A timeout for calls to other processes that does not expire merely because this process's event loop is busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_INTERVALS = 10


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Limit the block to a number of seconds, with tolerance for a busy event loop.

    The time is divided into ten timers, each of which starts when the previous one has expired. So a response that
    arrived while the event loop was busy is read before the deadline expires; ``asyncio.timeout`` would discard it.

    Raises:
        TimeoutError: The block took longer.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def start_timer(remaining: int) -> asyncio.TimerHandle:
        return loop.call_later(seconds / _INTERVALS, timer_expired, remaining)

    def timer_expired(remaining: int) -> None:
        nonlocal timer
        if remaining:
            timer = start_timer(remaining - 1)
        else:
            timeout.reschedule(loop.time())

    async with asyncio.timeout(None) as timeout:
        timer = start_timer(_INTERVALS - 1)
        try:
            yield
        finally:
            timer.cancel()
