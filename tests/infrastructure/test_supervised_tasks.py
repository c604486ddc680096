"""supervised, essential and BackgroundTasks: failures are logged, and restart the work or end its block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from infrastructure.tasks import (
    RESTART_DELAY_SECONDS,
    BackgroundTasks,
    essential,
    supervised,
)
from tests.infrastructure.fault_injection import FailingWork, UnexpectedError, raise_unexpected_error


def raise_cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    "fail",
    [raise_unexpected_error, raise_cancelled, lambda: None],
    ids=["raises", "cancelled", "returns"],
)
async def test_supervised_work_that_ends_is_logged_and_restarted(fail: Callable[[], object]) -> None:
    work = FailingWork(3, fail)
    with capture_logs() as logs:
        async with supervised(work, name="the work", restart_delay_seconds=(0.001, 0.01)), asyncio.timeout(5):
            await work.is_running.wait()
    assert work.runs == 4
    assert work.was_cancelled
    assert [(log["event"], log["log_level"], log["task"]) for log in logs] == [
        ("background_task_failed", "error", "the work")
    ] * 3
    assert all(isinstance(log["exc_info"], BaseException) for log in logs)


async def test_restart_delay_grows_with_each_failure() -> None:
    work = FailingWork(6, raise_unexpected_error)
    with capture_logs() as logs:
        async with supervised(work, name="the work", restart_delay_seconds=(0.004, 0.064)), asyncio.timeout(5):
            await work.is_running.wait()
    delays = [log["restart_in_seconds"] for log in logs]
    for delay, maximum in zip(delays, (0.004, 0.008, 0.016, 0.032, 0.064, 0.064), strict=True):
        assert maximum / 2 - 0.001 <= delay <= maximum + 0.001


def test_restart_delay_is_between_a_tenth_and_thirty_seconds() -> None:
    assert RESTART_DELAY_SECONDS == (0.1, 30.0)


async def test_restart_delay_is_reset_after_a_long_run() -> None:
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 5:
            await asyncio.sleep(0.1)
        raise UnexpectedError

    with capture_logs() as logs:
        async with supervised(work, name="the work", restart_delay_seconds=(0.004, 0.064)), asyncio.timeout(5):
            while len(logs) < 6:  # noqa: ASYNC110 - a log wakes no waiter
                await asyncio.sleep(0.001)
    delays = [log["restart_in_seconds"] for log in logs]
    assert delays[3] >= 0.015
    assert delays[4] <= 0.005
    assert delays[5] <= 0.009


async def test_error_of_the_block_is_raised_and_the_work_is_cancelled() -> None:
    work = FailingWork(0, raise_unexpected_error)

    async def block() -> None:
        async with supervised(work, name="the work"):
            await work.is_running.wait()
            raise UnexpectedError

    with pytest.raises(UnexpectedError):
        await block()
    assert work.was_cancelled


async def test_failed_essential_work_ends_the_block_with_its_error() -> None:
    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise UnexpectedError("unexpected")

    with pytest.raises(UnexpectedError):
        async with essential(fail, name="the work"), asyncio.timeout(5):
            await asyncio.Event().wait()
    this = asyncio.current_task()
    assert this is not None
    assert this.cancelling() == 0


async def test_failed_essential_work_ends_a_block_that_swallows_a_cancellation() -> None:
    async def fail() -> None:
        raise UnexpectedError("unexpected")

    async def block() -> None:
        async with essential(fail, name="the work"), asyncio.timeout(5):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.Event().wait()

    with pytest.raises(UnexpectedError):
        await block()


async def test_cancelled_block_with_essential_work_stays_cancelled() -> None:
    work = FailingWork(0, raise_unexpected_error)

    async def block() -> None:
        async with essential(work, name="the work"):
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await work.is_running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.was_cancelled


async def test_failing_background_task_is_logged_by_name() -> None:
    async def fail() -> None:
        raise UnexpectedError("unexpected")

    with capture_logs() as logs:
        async with BackgroundTasks() as tasks:
            tasks.start(fail(), name="the task")
            await tasks.wait(5)
            assert len(tasks) == 0
    assert [(log["event"], log["task"]) for log in logs] == [("background_task_failed", "the task")]


async def test_supervised_background_task_is_restarted() -> None:
    work = FailingWork(2, raise_unexpected_error)
    with capture_logs() as logs:
        async with BackgroundTasks() as tasks, asyncio.timeout(5):
            tasks.supervise(work, name="the work")
            await work.is_running.wait()
    assert (work.runs, len(logs), work.was_cancelled) == (3, 2, True)


async def test_waiting_for_background_tasks_ends_after_the_timeout() -> None:
    async with BackgroundTasks() as tasks:
        tasks.start(asyncio.sleep(3600), name="long")
        async with asyncio.timeout(5):
            await tasks.wait(0.05)
        assert len(tasks) == 1
    assert len(tasks) == 0
