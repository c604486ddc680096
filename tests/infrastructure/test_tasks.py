"""Tasks: a failure is logged and leads to something, nothing is lost, and a cancellation leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from contracts.errors import ServiceUnavailable
from infrastructure.tasks import (
    RESTART_SECONDS,
    BackgroundTasks,
    SharedTask,
    cancel_and_wait,
    concurrently,
    essential,
    finish,
    finish_before_leaving,
    first_of,
    supervised,
)


class Trouble(Exception):
    pass


class Flaky:
    """Fails the first ``failures`` times that it runs, and then runs until it is cancelled."""

    def __init__(self, failures: int, fail: Callable[[], object]) -> None:
        self.runs = 0
        self.is_well = asyncio.Event()
        self.was_cancelled = False
        self._failures = failures
        self._fail = fail

    async def __call__(self) -> None:
        self.runs += 1
        if self.runs <= self._failures:
            self._fail()
            return
        self.is_well.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.was_cancelled = True


def raise_trouble() -> None:
    raise Trouble("unexpected")


def raise_cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("fail", [raise_trouble, raise_cancelled, lambda: None], ids=["raises", "cancelled", "returns"])
async def test_supervised_work_that_ends_is_logged_and_restarted(fail: Callable[[], object]) -> None:
    work = Flaky(3, fail)
    with capture_logs() as logs:
        async with supervised(work, name="the work", restart_seconds=(0.001, 0.01)), asyncio.timeout(5):
            await work.is_well.wait()
    assert work.runs == 4
    assert work.was_cancelled
    assert [(log["event"], log["log_level"], log["task"]) for log in logs] == [
        ("background_task_failed", "error", "the work")
    ] * 3
    assert all(isinstance(log["exc_info"], BaseException) for log in logs)


async def test_restarts_come_later_the_more_often_the_work_fails() -> None:
    work = Flaky(6, raise_trouble)
    with capture_logs() as logs:
        async with supervised(work, name="the work", restart_seconds=(0.004, 0.064)), asyncio.timeout(5):
            await work.is_well.wait()
    pauses = [log["restart_in_seconds"] for log in logs]
    for pause, most in zip(pauses, (0.004, 0.008, 0.016, 0.032, 0.064, 0.064), strict=True):
        assert most / 2 - 0.001 <= pause <= most + 0.001


async def test_an_error_of_the_block_passes_and_the_work_is_cancelled() -> None:
    work = Flaky(0, raise_trouble)

    async def block() -> None:
        async with supervised(work, name="the work"):
            await work.is_well.wait()
            raise Trouble

    with pytest.raises(Trouble):
        await block()
    assert work.was_cancelled


async def test_a_failure_of_essential_work_ends_the_block_with_that_failure() -> None:
    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise Trouble("unexpected")

    with pytest.raises(Trouble):
        async with essential(fail, name="the work"), asyncio.timeout(5):
            await asyncio.Event().wait()
    this = asyncio.current_task()
    assert this is not None
    assert this.cancelling() == 0


async def test_a_failure_of_essential_work_ends_a_block_that_swallows_a_cancellation() -> None:
    async def fail() -> None:
        raise Trouble("unexpected")

    async def block() -> None:
        async with essential(fail, name="the work"), asyncio.timeout(5):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.Event().wait()

    with pytest.raises(Trouble):
        await block()


async def test_a_block_that_is_cancelled_beside_essential_work_stays_cancelled() -> None:
    work = Flaky(0, raise_trouble)

    async def block() -> None:
        async with essential(work, name="the work"):
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await work.is_well.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.was_cancelled


async def test_a_background_task_that_fails_is_logged_by_name() -> None:
    async def fail() -> None:
        raise Trouble("unexpected")

    with capture_logs() as logs:
        async with BackgroundTasks() as tasks:
            tasks.start(fail(), name="the task")
            await tasks.wait(5)
            assert len(tasks) == 0
    assert [(log["event"], log["task"]) for log in logs] == [("background_task_failed", "the task")]


async def test_a_supervised_background_task_is_restarted() -> None:
    work = Flaky(2, raise_trouble)
    with capture_logs() as logs:
        async with BackgroundTasks() as tasks, asyncio.timeout(5):
            tasks.supervise(work, name="the work")
            await work.is_well.wait()
    assert (work.runs, len(logs), work.was_cancelled) == (3, 2, True)


async def test_closing_ends_the_background_tasks_and_those_that_they_start() -> None:
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


async def test_all_who_wait_for_shared_work_get_its_result_and_who_leaves_ends_nothing() -> None:
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
async def test_a_failure_of_shared_work_is_raised_where_it_is_awaited_and_else_logged(waits: bool) -> None:
    may_end = asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        raise Trouble("unexpected")

    with capture_logs() as logs:
        waiting = asyncio.create_task(finish(work(), name="the work"))
        await asyncio.sleep(0)
        if not waits:
            await cancel_and_wait(waiting)
        may_end.set()
        for _ in range(5):
            await asyncio.sleep(0)
    if waits:
        with pytest.raises(Trouble):
            await waiting
    assert [log["task"] for log in logs] == ([] if waits else ["the work"])


async def test_an_answer_that_nobody_awaits_any_more_is_logged_without_a_traceback() -> None:
    may_end = asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        raise ServiceUnavailable(service="files")

    with capture_logs() as logs:
        waiting = asyncio.create_task(finish(work(), name="the work"))
        await asyncio.sleep(0)
        await cancel_and_wait(waiting)
        may_end.set()
        for _ in range(5):
            await asyncio.sleep(0)
    assert [(log["event"], log["log_level"], log["task"]) for log in logs] == [
        ("background_task_failed", "warning", "the work")
    ]
    assert "exc_info" not in logs[0]


async def test_work_is_finished_although_its_caller_is_cancelled_and_nothing_refers_to_it() -> None:
    done: list[str] = []

    async def work() -> None:
        nobody_else_has_it: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.05, nobody_else_has_it.set_result, None)
        await nobody_else_has_it
        done.append("done")

    calling = asyncio.create_task(finish(work(), name="the work"))
    await asyncio.sleep(0)
    await cancel_and_wait(calling)
    del calling
    gc.collect()
    await asyncio.sleep(0.1)
    assert done == ["done"]


@pytest.mark.parametrize("fails", [False, True])
async def test_who_must_not_leave_before_the_work_is_cancelled_after_it(fails: bool) -> None:
    may_end, done = asyncio.Event(), []

    async def work() -> None:
        await may_end.wait()
        done.append("done")
        if fails:
            raise Trouble("unexpected")

    with capture_logs() as logs:
        calling = asyncio.create_task(finish_before_leaving(work(), name="the work"))
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


async def test_concurrent_work_gives_its_results_in_order() -> None:
    async def after(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    assert await concurrently(after(0.02), after(0.01), after(0.0)) == [0.02, 0.01, 0.0]
    nothing: list[Coroutine[None, None, float]] = []
    assert await concurrently(*nothing) == []


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["one fails", "the caller is cancelled"])
async def test_concurrent_work_leaves_nothing_running(is_cancelled: bool) -> None:
    ended = 0

    async def wait() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended += 1

    async def fail() -> None:
        await asyncio.sleep(0.01)
        if not is_cancelled:
            raise Trouble("unexpected")

    calling = asyncio.create_task(concurrently(wait(), fail(), wait()))
    await asyncio.sleep(0.03 if is_cancelled else 0)
    if is_cancelled:
        calling.cancel()
    with pytest.raises(asyncio.CancelledError if is_cancelled else Trouble):
        await calling
    assert ended == 2


async def test_the_first_to_end_is_named_and_the_others_are_cancelled() -> None:
    work = Flaky(0, raise_trouble)

    async def end() -> None:
        await work.is_well.wait()

    assert await first_of(work(), end()) == 1
    assert work.was_cancelled


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    async def stubborn() -> None:
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await cancel_and_wait(task)
    assert task.cancelled()


async def test_of_several_failures_at_one_moment_one_is_raised_and_none_is_an_error_of_the_event_loop() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

    async def fail() -> None:
        raise ValueError

    async def fail_together() -> None:
        with suppress(ValueError):
            await concurrently(*(fail() for _ in range(3)))

    await fail_together()
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


def test_work_that_fails_is_restarted_after_a_tenth_of_a_second_and_half_a_minute_at_most() -> None:
    assert RESTART_SECONDS == (0.1, 30.0)


async def test_work_that_ran_for_long_is_restarted_as_soon_as_the_first_time() -> None:
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 5:
            await asyncio.sleep(0.1)
        raise Trouble

    with capture_logs() as logs:
        async with supervised(work, name="the work", restart_seconds=(0.004, 0.064)), asyncio.timeout(5):
            while len(logs) < 6:  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.001)
    pauses = [log["restart_in_seconds"] for log in logs]
    assert pauses[3] >= 0.015
    assert pauses[4] <= 0.005
    assert pauses[5] <= 0.009


async def test_cancelling_a_background_task_ends_it_although_it_swallows_one_cancellation() -> None:
    async def stubborn() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async with BackgroundTasks() as tasks:
        task = tasks.start(stubborn(), name="stubborn")
        await asyncio.sleep(0)
        tasks.cancel(task)
        async with asyncio.timeout(5):
            await asyncio.wait((task,))
        assert task.cancelled()


async def test_waiting_for_background_tasks_ends_after_so_many_seconds() -> None:
    async with BackgroundTasks() as tasks:
        tasks.start(asyncio.sleep(3600), name="long")
        async with asyncio.timeout(5):
            await tasks.wait(0.05)
        assert len(tasks) == 1
    assert len(tasks) == 0


async def test_the_first_to_fail_raises_and_the_others_have_ended_by_then() -> None:
    ended = 0

    async def wait() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended += 1

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise Trouble

    with pytest.raises(Trouble):
        await first_of(wait(), fail(), wait())
    assert ended == 2
