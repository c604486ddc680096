"""Cancellation of tasks: a cancelled task has ended before the caller continues."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from infrastructure.tasks import (
    BackgroundTasks,
    cancel_and_wait,
    run_concurrently,
    wait_for_first,
)
from tests.infrastructure.fault_injection import FailingWork, UnexpectedError, raise_unexpected_error


class SlowToCancel:
    """Work that runs until it is cancelled and then needs time to end. ``ended``: number of ended calls."""

    def __init__(self) -> None:
        self.ended = 0

    async def __call__(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            self.ended += 1


async def test_closing_ends_background_tasks_and_tasks_that_they_start() -> None:
    ended: list[str] = []
    tasks = BackgroundTasks()

    async def wait(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)
            if name == "first":
                tasks.start(wait("second"), name="second")
                await asyncio.sleep(0)

    async with tasks:
        tasks.start(wait("first"), name="first")
        await asyncio.sleep(0)
    assert ended == ["first", "second"]
    assert len(tasks) == 0


async def test_cancelled_background_task_ends_even_if_it_swallows_a_cancellation() -> None:
    async def ignores_cancellation() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async with BackgroundTasks() as tasks:
        task = tasks.start(ignores_cancellation(), name="ignores_cancellation")
        await asyncio.sleep(0)
        tasks.cancel(task)
        async with asyncio.timeout(5):
            await asyncio.wait((task,))
        assert task.cancelled()


async def test_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    async def ignores_cancellation() -> None:
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue
        await asyncio.Event().wait()

    task = asyncio.create_task(ignores_cancellation())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await cancel_and_wait(task)
    assert task.cancelled()


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["one fails", "the caller is cancelled"])
async def test_run_concurrently_leaves_no_task_running(is_cancelled: bool) -> None:
    waits = SlowToCancel()

    async def fail() -> None:
        await asyncio.sleep(0.01)
        if not is_cancelled:
            raise UnexpectedError("unexpected")

    calling = asyncio.create_task(run_concurrently(waits(), fail(), waits()))
    await asyncio.sleep(0.03 if is_cancelled else 0)
    if is_cancelled:
        calling.cancel()
    with pytest.raises(asyncio.CancelledError if is_cancelled else UnexpectedError):
        await calling
    assert waits.ended == 2


async def test_wait_for_first_returns_the_index_and_cancels_the_others() -> None:
    work = FailingWork(0, raise_unexpected_error)

    async def end() -> None:
        await work.is_running.wait()

    assert await wait_for_first(work(), end()) == 1
    assert work.was_cancelled


async def test_wait_for_first_raises_after_the_others_have_ended() -> None:
    waits = SlowToCancel()

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise UnexpectedError

    with pytest.raises(UnexpectedError):
        await wait_for_first(waits(), fail(), waits())
    assert waits.ended == 2
