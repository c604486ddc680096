"""Tasks of asyncio: each is awaited, or supervised so that its failure is logged and leads to something.

This is the only module that creates tasks or shields them (a test forbids it elsewhere):

- ``supervised``    work that runs as long as a block, such as a subscription to Redis; restarted when it fails
- ``essential``     the same, but without it the process is of no use: its failure ends the block with that error
- ``BackgroundTasks``  work of its own length that is not awaited; a failure is logged
- ``SharedTask``    work that several callers await; a caller that is cancelled does not end it
- ``finish``        work that is completed even if its only caller is cancelled
- ``concurrently``  several pieces of work, awaited together
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
"""Starts the work anew each time that it is called."""

RESTART_SECONDS = (0.1, 30.0)
"""Before the first restart of work that failed, and at most; the time doubles with each failure in a row."""
_CANCEL_AGAIN_SECONDS = 0.2

log = structlog.get_logger()

_unfinished: set[asyncio.Task[Any]] = set()
"""Strong references to what ``SharedTask`` runs: asyncio itself keeps only weak ones, and the waiters may all leave."""


class EndedUnexpectedly(Exception):
    """Work that should run for as long as its block returned, or was cancelled by something that it awaited."""


@asynccontextmanager
async def supervised(
    work: Work, *, name: str, restart_seconds: tuple[float, float] = RESTART_SECONDS
) -> AsyncIterator[None]:
    """Run the work while the block runs. If it fails or returns, log that as an error and start it again."""
    task = asyncio.create_task(_restarting(work, name, restart_seconds), name=name)
    try:
        yield
    finally:
        await cancel_and_wait(task)


@asynccontextmanager
async def essential(work: Work, *, name: str) -> AsyncIterator[None]:
    """Run the work while the block runs. If it fails, cancel the block and raise the failure from it.

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
    """Tasks that are not awaited: a failure is logged, and closing this cancels those that are left."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Result], *, name: str) -> asyncio.Task[Result]:
        """Run the work once. Its failure is logged, and also raised to a caller that awaits the task."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def supervise(self, work: Work, *, name: str) -> asyncio.Task[None]:
        """Run the work until this is closed. If it fails or returns, log that as an error and start it again."""
        return self.start(_restarting(work, name, RESTART_SECONDS), name=name)

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancel a task until it has ended, without waiting for that."""
        if not task.done():
            self.start(cancel_and_wait(task), name=f"cancel {task.get_name()}")

    async def wait(self, seconds: float) -> None:
        """Wait until all have ended, but not longer than so many seconds."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        while self._tasks:  # one that ends may start another
            await cancel_and_wait(*self._tasks)
            await asyncio.sleep(0)  # for the callbacks that take them out

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        _log_failure(task)


class SharedTask(Generic[Result]):
    """A task whose result any number of callers await; it continues if callers are cancelled.

    A failure that no caller awaits is logged.
    """

    def __init__(self, work: Coroutine[Any, Any, Result], *, name: str) -> None:
        self._waiting = 0
        self._task = asyncio.create_task(work, name=name)
        _unfinished.add(self._task)
        self._task.add_done_callback(self._ended)

    @property
    def is_done(self) -> bool:
        return self._task.done()

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call it once the work has ended, in whatever way."""
        self._task.add_done_callback(lambda _: callback())

    async def result(self) -> Result:
        """Wait for the result. Raises what the work raises, and CancelledError if it was cancelled."""
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1

    async def stop(self) -> None:
        await cancel_and_wait(self._task)

    def _ended(self, task: asyncio.Task[Result]) -> None:
        _unfinished.discard(task)
        if self._waiting == 0:
            _log_failure(task)


async def finish(work: Coroutine[Any, Any, Result], *, name: str) -> Result:
    """Await work that is completed even if the caller is cancelled; a failure after the cancellation is logged."""
    return await SharedTask(work, name=name).result()


async def finish_before_leaving(work: Coroutine[Any, Any, Result], *, name: str) -> Result:
    """Await work that is completed even if the caller is cancelled; the cancellation takes effect after it."""
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


async def concurrently(*work: Coroutine[Any, Any, Result]) -> list[Result]:
    """Await all of the work at the same time; the results are in its order.

    If one raises, the others are cancelled and have ended by the time that its error is raised from here;
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
            _failure_of(task)  # of several that failed one is raised; asyncio would log the others


async def first_of(*work: Coroutine[Any, Any, Any]) -> int:
    """Return the index of the one that ends first, or raise what it raises; the others are cancelled."""
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
    """Cancel the tasks and return once they have ended, in whatever way.

    One cancellation may not be enough: before Python 3.12 ``asyncio.wait_for`` swallows one that comes with its result.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_SECONDS)
        for task in ended:
            _failure_of(task)  # asyncio logs a failure that was never retrieved


async def _end_when_failed(block: asyncio.Task[Any], task: asyncio.Task[None]) -> None:
    await asyncio.wait((task,))
    while _failure_of(task) is not None:  # one cancellation may not be enough, see ``cancel_and_wait``
        block.cancel()
        await asyncio.sleep(_CANCEL_AGAIN_SECONDS)


async def _restarting(work: Work, name: str, restart_seconds: tuple[float, float]) -> None:
    loop = asyncio.get_running_loop()
    first, most = restart_seconds
    failures = 0
    while True:
        began = loop.time()
        try:
            await work()
            error: BaseException = EndedUnexpectedly(f"{name} returned")
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            error = EndedUnexpectedly(f"{name} was cancelled from within")
            error.__cause__ = cancelled
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is logged and the work restarted
            error = failure
        failures = 1 if loop.time() - began > most else failures + 1
        pause = min(most, first * 2 ** min(failures - 1, 30)) * random.uniform(0.5, 1)  # noqa: S311 - jitter
        log.error("background_task_failed", task=name, restart_in_seconds=round(pause, 3), exc_info=error)
        await asyncio.sleep(pause)


def _failure_of(task: asyncio.Task[Any]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


def _log_failure(task: asyncio.Task[Any]) -> None:
    """Log the failure of a task. A domain error is a result, not a fault, so it is logged without a traceback."""
    error = _failure_of(task)
    if isinstance(error, DomainError):
        log.warning("background_task_failed", task=task.get_name(), error=type(error).__name__)
    elif error is not None:
        log.error("background_task_failed", task=task.get_name(), exc_info=error)
