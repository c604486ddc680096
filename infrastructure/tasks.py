"""Creation of asyncio tasks: each task is awaited, or supervised so that its failure is logged and handled.

This is the only module that creates or shields tasks (a test enforces this):

- ``supervised``: runs work as long as a block runs, such as a subscription to Redis, and restarts the work on failure
- ``essential``: runs work as long as a block runs; a failure of the work cancels the block
- ``BackgroundTasks``: starts work that is not awaited; failures are logged
- ``SharedTask``: runs work that several callers await; the cancellation of a caller does not cancel the work
- ``shielded``, ``delay_cancellation``: complete work even if its only caller is cancelled
- ``run_concurrently``, ``wait_for_first``: await several pieces of work
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

import structlog

from contracts.errors import DomainError

Result = TypeVar("Result")
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""A function that starts the work; each call starts it anew."""

RESTART_DELAY_SECONDS = (0.1, 30.0)
"""Delay before the first restart of failed work, and the upper limit; it doubles with each failure in a row."""
_CANCEL_RETRY_INTERVAL_SECONDS = 0.2

log = structlog.get_logger()

_unfinished: set[asyncio.Task[Any]] = set()
"""Strong references to the tasks of ``SharedTask``: asyncio keeps weak ones only, and all callers may be cancelled."""


class TaskEndedUnexpectedly(Exception):
    """Supervised work returned, or was cancelled although its block still runs."""


@asynccontextmanager
async def supervised(
    work: Work, *, name: str, restart_delay_seconds: tuple[float, float] = RESTART_DELAY_SECONDS
) -> AsyncIterator[None]:
    """Run the work while the block runs. If the work fails or returns, log an error and restart it after a delay.

    Args:
        work: Starts the work.
        name: Name of the task, for the log.
        restart_delay_seconds: Delay before the first restart, and the upper limit of the delay.
    """
    task = asyncio.create_task(_run_with_restarts(work, name, restart_delay_seconds), name=name)
    try:
        yield
    finally:
        await cancel_and_wait(task)


@asynccontextmanager
async def essential(work: Work, *, name: str) -> AsyncIterator[None]:
    """Run the work while the block runs. If the work fails, cancel the block and raise the error of the work.

    The work may return at any time.
    """
    block = asyncio.current_task()
    assert block is not None
    task = asyncio.create_task(work(), name=name)
    ending = asyncio.create_task(_end_when_failed(block, task), name=f"end the block of {name}")
    try:
        yield
    except asyncio.CancelledError:
        if _failure_of(task) is None:
            raise
        while block.cancelling():
            block.uncancel()
    finally:
        await cancel_and_wait(ending, task)
    if (error := _failure_of(task)) is not None:
        raise error


class BackgroundTasks:
    """A group of tasks that are not awaited: failures are logged, and closing the group cancels the remaining tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Result], *, name: str) -> asyncio.Task[Result]:
        """Start the work. Its failure is logged, and also raised to a caller that awaits the returned task."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def supervise(self, work: Work, *, name: str) -> asyncio.Task[None]:
        """Run the work until the group is closed. If the work fails or returns, log an error and restart it."""
        return self.start(_run_with_restarts(work, name, RESTART_DELAY_SECONDS), name=name)

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancel a task repeatedly until it has ended, in the background."""
        if not task.done():
            self.start(cancel_and_wait(task), name=f"cancel {task.get_name()}")

    async def wait(self, timeout_seconds: float) -> None:
        """Wait until all tasks have ended or the timeout expires."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=timeout_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the remaining tasks and wait until they have ended."""
        while self._tasks:  # a task that ends may start another
            await cancel_and_wait(*self._tasks)
            await asyncio.sleep(0)  # lets the callbacks run that remove ended tasks

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        _log_failure(task)


class SharedTask(Generic[Result]):
    """A task whose result any number of callers await; it continues when callers are cancelled.

    A failure that no caller awaits is logged.
    """

    def __init__(self, work: Coroutine[Any, Any, Result], *, name: str) -> None:
        self._waiting = 0
        self._task = asyncio.create_task(work, name=name)
        _unfinished.add(self._task)
        self._task.add_done_callback(self._ended)

    @property
    def is_done(self) -> bool:
        """Whether the work has returned, failed or been cancelled."""
        return self._task.done()

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call the callback after the work has returned, failed or been cancelled."""
        self._task.add_done_callback(lambda _: callback())

    async def result(self) -> Result:
        """Wait for the result of the work.

        Raises:
            Exception: The error that the work raises.
            CancelledError: The work was cancelled.
        """
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1

    async def stop(self) -> None:
        """Cancel the work and wait until it has ended."""
        await cancel_and_wait(self._task)

    def _ended(self, task: asyncio.Task[Result]) -> None:
        _unfinished.discard(task)
        if self._waiting == 0:
            _log_failure(task)


async def shielded(work: Coroutine[Any, Any, Result], *, name: str) -> Result:
    """Await work that continues in the background if the caller is cancelled; a failure is then logged.

    The caller's cancellation takes effect at once.
    """
    return await SharedTask(work, name=name).result()


async def delay_cancellation(work: Coroutine[Any, Any, Result], *, name: str) -> Result:
    """Await work to its end even if the caller is cancelled; the cancellation takes effect after the work."""
    task = asyncio.create_task(work, name=name)
    was_cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            was_cancelled = True
    if was_cancelled:
        _log_failure(task)
        raise asyncio.CancelledError
    return task.result()


async def run_concurrently(*work: Coroutine[Any, Any, Result]) -> list[Result]:
    """Await several coroutines at the same time and return their results in the same order.

    If one raises an error, the others are cancelled and have ended before this function raises the error;
    ``asyncio.gather`` would leave them running.
    """
    tasks = [asyncio.create_task(each) for each in work]
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
        return [task.result() for task in tasks]
    finally:
        await cancel_and_wait(*tasks)
        for task in tasks:
            _failure_of(task)  # if several failed, one error is raised; asyncio would log the others


async def wait_for_first(*work: Coroutine[Any, Any, Any]) -> int:
    """Return the index of the coroutine that ends first, or raise its error; cancel the others."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first, *others = (index for index, task in enumerate(tasks) if task in done)
        for index in others:
            _log_failure(tasks[index])
        tasks[first].result()
        return first
    finally:
        await cancel_and_wait(*tasks)


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until they have ended, with a result, an error or by the cancellation.

    The cancellation is repeated: before Python 3.12 ``asyncio.wait_for`` swallows one that arrives with its result.
    """
    remaining = {task for task in tasks if not task.done()}
    while remaining:
        for task in remaining:
            task.cancel()
        ended, remaining = await asyncio.wait(remaining, timeout=_CANCEL_RETRY_INTERVAL_SECONDS)
        for task in ended:
            _failure_of(task)  # asyncio logs a failure that was never retrieved


async def _end_when_failed(block: asyncio.Task[Any], task: asyncio.Task[None]) -> None:
    await asyncio.wait((task,))
    while _failure_of(task) is not None:  # one cancellation may not be enough, see ``cancel_and_wait``
        block.cancel()
        await asyncio.sleep(_CANCEL_RETRY_INTERVAL_SECONDS)


async def _run_with_restarts(work: Work, name: str, restart_delay_seconds: tuple[float, float]) -> None:
    loop = asyncio.get_running_loop()
    first, maximum = restart_delay_seconds
    failures = 0
    while True:
        started_at = loop.time()
        try:
            await work()
            error: BaseException = TaskEndedUnexpectedly(f"{name} returned")
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            error = TaskEndedUnexpectedly(f"{name} was cancelled from within")
            error.__cause__ = cancelled
        except Exception as failure:  # noqa: BLE001 - any error is logged, and the work is restarted
            error = failure
        failures = 1 if loop.time() - started_at > maximum else failures + 1
        delay = min(maximum, first * 2 ** min(failures - 1, 30)) * random.uniform(0.5, 1)  # noqa: S311 - jitter
        log.error("background_task_failed", task=name, restart_in_seconds=round(delay, 3), exc_info=error)
        await asyncio.sleep(delay)


def _failure_of(task: asyncio.Task[Any]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


def _log_failure(task: asyncio.Task[Any]) -> None:
    """Log the failure of a task. A DomainError is a typed result and not a fault, so it is logged without traceback."""
    error = _failure_of(task)
    if isinstance(error, DomainError):
        log.warning("background_task_failed", task=task.get_name(), error=type(error).__name__)
    elif error is not None:
        log.error("background_task_failed", task=task.get_name(), exc_info=error)
