"""Cancelling what must end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

_AGAIN_SECONDS = 0.2


async def cancelled(*tasks: asyncio.Task[None]) -> None:
    """Cancel the tasks and return once they have ended, whatever with.

    One cancellation may not do: before Python 3.12 ``asyncio.wait_for`` swallows one that comes with its result.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
        for task in ended:
            _ = task.cancelled() or task.exception()  # so that nobody is told that it was never looked at


@asynccontextmanager
async def meanwhile(work: Coroutine[object, object, None], *, name: str) -> AsyncIterator[None]:
    """Have it done while the block runs, and no longer."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        await cancelled(task)
