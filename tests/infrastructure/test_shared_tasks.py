"""SharedTask, shielded, delay_cancellation and run_concurrently: results, failures and cancelled callers."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from contracts.errors import ServiceUnavailable
from infrastructure.tasks import (
    SharedTask,
    cancel_and_wait,
    delay_cancellation,
    run_concurrently,
    shielded,
)
from tests.infrastructure.fault_injection import UnexpectedError


async def test_all_callers_receive_the_result_and_a_cancelled_caller_ends_nothing() -> None:
    may_end = asyncio.Event()

    async def work() -> str:
        await may_end.wait()
        return "result"

    shared = SharedTask(work(), name="the work")
    waiting = [asyncio.create_task(shared.result()) for _ in range(3)]
    await asyncio.sleep(0)
    await cancel_and_wait(waiting.pop())
    may_end.set()
    assert await asyncio.gather(*waiting) == ["result"] * 2


@pytest.mark.parametrize("waits", [True, False])
async def test_failure_of_shared_work_is_raised_to_callers_or_logged(waits: bool) -> None:
    may_end = asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        raise UnexpectedError("unexpected")

    with capture_logs() as logs:
        waiting = asyncio.create_task(shielded(work(), name="the work"))
        await asyncio.sleep(0)
        if not waits:
            await cancel_and_wait(waiting)
        may_end.set()
        for _ in range(5):
            await asyncio.sleep(0)
    if waits:
        with pytest.raises(UnexpectedError):
            await waiting
    assert [log["task"] for log in logs] == ([] if waits else ["the work"])


async def test_domain_error_without_a_caller_is_logged_without_traceback() -> None:
    may_end = asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        raise ServiceUnavailable(service="files")

    with capture_logs() as logs:
        waiting = asyncio.create_task(shielded(work(), name="the work"))
        await asyncio.sleep(0)
        await cancel_and_wait(waiting)
        may_end.set()
        for _ in range(5):
            await asyncio.sleep(0)
    assert [(log["event"], log["log_level"], log["task"]) for log in logs] == [
        ("background_task_failed", "warning", "the work")
    ]
    assert "exc_info" not in logs[0]


async def test_shielded_work_completes_without_caller_and_references() -> None:
    done: list[str] = []

    async def work() -> None:
        unreferenced: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.05, unreferenced.set_result, None)
        await unreferenced
        done.append("done")

    calling = asyncio.create_task(shielded(work(), name="the work"))
    await asyncio.sleep(0)
    await cancel_and_wait(calling)
    del calling
    gc.collect()
    await asyncio.sleep(0.1)
    assert done == ["done"]


@pytest.mark.parametrize("fails", [False, True])
async def test_delay_cancellation_takes_effect_after_the_work(fails: bool) -> None:
    may_end, done = asyncio.Event(), []

    async def work() -> None:
        await may_end.wait()
        done.append("done")
        if fails:
            raise UnexpectedError("unexpected")

    with capture_logs() as logs:
        calling = asyncio.create_task(delay_cancellation(work(), name="the work"))
        for _ in range(3):
            await asyncio.sleep(0)
            calling.cancel()
        await asyncio.sleep(0)
        assert not calling.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await calling
    assert done == ["done"]
    assert [log["task"] for log in logs] == ["the work"] * fails


async def test_run_concurrently_returns_results_in_order() -> None:
    async def after(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    assert await run_concurrently(after(0.02), after(0.01), after(0.0)) == [0.02, 0.01, 0.0]
    nothing: list[Coroutine[None, None, float]] = []
    assert await run_concurrently(*nothing) == []


async def test_one_of_several_failures_is_raised_and_asyncio_logs_none() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))

    async def fail() -> None:
        raise ValueError

    async def fail_together() -> None:
        with suppress(ValueError):
            await run_concurrently(*(fail() for _ in range(3)))

    await fail_together()
    gc.collect()
    await asyncio.sleep(0)
    assert reported == []
