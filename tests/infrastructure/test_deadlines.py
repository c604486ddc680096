"""Deadlines expire when another process is slow, but not because this process's event loop was busy."""

from __future__ import annotations

import asyncio
import time

import pytest

from infrastructure.deadlines import deadline


async def test_raises_timeout_error_after_the_deadline() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with deadline(0.1):
            await asyncio.sleep(5)
    assert 0.09 < time.monotonic() - began < 0.5


async def test_returns_a_result_within_the_deadline() -> None:
    async with deadline(0.1):
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.15)  # the timer was cancelled: nothing is raised later


async def test_response_that_arrived_while_the_loop_was_busy_is_used() -> None:
    async def respond() -> str:
        for _ in range(3):
            await asyncio.sleep(0.01)
        return "response"

    async def busy() -> None:
        for _ in range(3):
            time.sleep(0.2)  # noqa: ASYNC251 - it blocks the event loop on purpose
            await asyncio.sleep(0)

    working = asyncio.create_task(busy())
    async with deadline(0.1):
        assert await respond() == "response"
    await working


async def test_errors_and_cancellation_are_raised_unchanged() -> None:
    with pytest.raises(KeyError):
        async with deadline(1):
            raise KeyError

    async def waiting() -> None:
        async with deadline(5):
            await asyncio.sleep(5)

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
