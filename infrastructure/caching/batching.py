"""Batching: one call for the keys that several callers load at the same time.

``Batching`` works across requests and keeps nothing. ``DataLoader`` belongs to one execution and keeps each result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeAlias, TypeVar

from infrastructure.tasks import BackgroundTasks

Value = TypeVar("Value")
Future = TypeVar("Future", bound=asyncio.Future[Any])
Load: TypeAlias = Callable[[Sequence[str]], Awaitable[Mapping[str, Value | Exception]]]
"""Loads several keys, each of them once. A key that it cannot find is absent; a value that is an error is raised."""

_MAX_CONCURRENT_OF_EXECUTION = 8


class Batching(Generic[Value]):
    """Loads keys in batches of at most ``max_batch_size`` keys, of which ``max_concurrent`` run at a time.

    A caller receives no result of a batch that began before its call, so a caller that loads after a change sees the
    change. Keys that wait for a batch do not use up the time limit of another one.
    """

    def __init__(self, load: Load[Value], *, max_batch_size: int, max_concurrent: int) -> None:
        self._load = load
        self._max_batch_size = max_batch_size
        self._max_concurrent = max_concurrent
        self._waiting: dict[str, list[asyncio.Future[Value | None]]] = {}
        self._running = 0
        self._tasks = BackgroundTasks()

    async def aclose(self) -> None:
        """Cancel the running batches and all callers."""
        await self._tasks.aclose()
        for future in _unanswered(self._waiting.values()):
            future.cancel()
        self._waiting.clear()

    def load(self, key: str) -> asyncio.Future[Value | None]:
        """Return the future value of the key, None if it is not found. The key is part of the next batch at once.

        The future belongs to the caller alone: to cancel it cancels no other caller. If the call fails, all callers of
        the batch receive its error.
        """
        future: asyncio.Future[Value | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._running < self._max_concurrent:
            self._running += 1
            self._tasks.start(self._run(), name="load batches")
        return future

    async def _run(self) -> None:
        try:
            await asyncio.sleep(0)  # callers that run in the same turn of the event loop join this batch
            while keys := tuple(islice(self._waiting, self._max_batch_size)):
                batch = {key: self._waiting.pop(key) for key in keys}
                if wanted := {key: futures for key, futures in batch.items() if any(_unanswered((futures,)))}:
                    await self._run_batch(wanted)
        finally:
            self._running -= 1

    async def _run_batch(self, batch: Mapping[str, Sequence[asyncio.Future[Value | None]]]) -> None:
        try:
            values = await self._load(tuple(batch))
            for key, futures in batch.items():
                value = values.get(key)
                for future in _unanswered((futures,)):
                    if isinstance(value, Exception):
                        _fail(future, value)
                    else:
                        future.set_result(value)
        except Exception as error:  # noqa: BLE001 - the callers receive it
            for future in _unanswered(batch.values()):
                _fail(future, error)
        except asyncio.CancelledError:
            for future in _unanswered(batch.values()):
                future.cancel()
            task = asyncio.current_task()
            if task is None or task.cancelling():  # otherwise only this call was cancelled, from within
                raise


class DataLoader(Generic[Value]):
    """Loads each key once, several in one call, and keeps the result or the error; one execution has one."""

    def __init__(self, load: Load[Value], *, max_batch_size: int) -> None:
        self._batching = Batching(load, max_batch_size=max_batch_size, max_concurrent=_MAX_CONCURRENT_OF_EXECUTION)
        self._outcomes: dict[str, asyncio.Future[Value | None]] = {}

    def load(self, key: str) -> asyncio.Future[Value | None]:
        """Return the future value of the key, as ``Batching.load`` does."""
        outcome = self._outcomes.get(key)
        if outcome is None:
            outcome = self._outcomes[key] = self._batching.load(key)
        future: asyncio.Future[Value | None] = outcome.get_loop().create_future()
        if outcome.done():
            _copy(future, outcome)
        else:
            outcome.add_done_callback(partial(_copy, future))
        return future

    def prime(self, outcomes: Mapping[str, Value | Exception | None]) -> None:
        """Keep these outcomes for keys that have not been loaded yet."""
        for key, value in outcomes.items():
            if key in self._outcomes:
                continue
            outcome: asyncio.Future[Value | None] = asyncio.get_running_loop().create_future()
            if isinstance(value, Exception):
                _fail(outcome, value)
            else:
                outcome.set_result(value)
            self._outcomes[key] = outcome


def _copy(future: asyncio.Future[Value], outcome: asyncio.Future[Value]) -> None:
    """Give a caller the outcome, unless it has left."""
    if outcome.cancelled():
        future.cancel()
        return
    error = outcome.exception()
    if future.done():
        return
    if error is None:
        future.set_result(outcome.result())
    else:
        _fail(future, error)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    future.set_exception(error)
    future.exception()  # asyncio would log an error that its caller does not retrieve, for instance because it has left


def _unanswered(futures: Iterable[Iterable[Future]]) -> Iterator[Future]:
    return (future for each in futures for future in each if not future.done())
