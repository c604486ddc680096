"""Batching: one call that loads the keys of several callers.

``Batching`` works across requests and keeps no results. A ``DataLoader`` belongs to one GraphQL execution and keeps
each result until the execution ends.
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
"""A function that loads several distinct keys.

The result lacks keys that do not exist. A value that is an exception is raised to the callers of its key.
"""

_MAX_CONCURRENT_BATCHES_PER_EXECUTION = 8


class Batching(Generic[Value]):
    """Loads keys in batches across requests; results are not kept.

    A caller never receives the result of a batch that began before its call, so a caller that loads after a change sees
    the change.

    Args:
        load: Loads the keys of one batch.
        max_batch_size: Maximum number of keys of a batch.
        max_concurrent: Maximum number of batches that run at the same time.
    """

    def __init__(self, load: Load[Value], *, max_batch_size: int, max_concurrent: int) -> None:
        self._load = load
        self._max_batch_size = max_batch_size
        self._max_concurrent = max_concurrent
        self._waiting: dict[str, list[asyncio.Future[Value | None]]] = {}
        self._running = 0
        self._tasks = BackgroundTasks()

    async def aclose(self) -> None:
        """Cancel the running batches and the futures of all callers."""
        await self._tasks.aclose()
        for future in _pending(self._waiting.values()):
            future.cancel()
        self._waiting.clear()

    def load(self, key: str) -> asyncio.Future[Value | None]:
        """Add the key to the next batch and return the future of its value, which is None if the key does not exist.

        The future belongs to this caller: its cancellation does not affect other callers. If the call of ``load``
        fails, all callers of the batch receive the error.
        """
        future: asyncio.Future[Value | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._running < self._max_concurrent:
            self._running += 1
            self._tasks.start(self._run(), name="load batches")
        return future

    async def _run(self) -> None:
        try:
            await asyncio.sleep(0)  # callers that run in the same iteration of the event loop join this batch
            while keys := tuple(islice(self._waiting, self._max_batch_size)):
                batch = {key: self._waiting.pop(key) for key in keys}
                if awaited := {key: futures for key, futures in batch.items() if any(_pending((futures,)))}:
                    await self._run_batch(awaited)
        finally:
            self._running -= 1

    async def _run_batch(self, batch: Mapping[str, Sequence[asyncio.Future[Value | None]]]) -> None:
        try:
            values = await self._load(tuple(batch))
            for key, futures in batch.items():
                value = values.get(key)
                for future in _pending((futures,)):
                    if isinstance(value, Exception):
                        _fail(future, value)
                    else:
                        future.set_result(value)
        except Exception as error:  # noqa: BLE001 - the callers receive it
            for future in _pending(batch.values()):
                _fail(future, error)
        except asyncio.CancelledError:
            for future in _pending(batch.values()):
                future.cancel()
            task = asyncio.current_task()
            if task is None or task.cancelling():  # otherwise only the call of ``load`` was cancelled
                raise


class DataLoader(Generic[Value]):
    """Loads each key of one GraphQL execution once, in batches, and keeps the result or the error."""

    def __init__(self, load: Load[Value], *, max_batch_size: int) -> None:
        self._batching = Batching(
            load, max_batch_size=max_batch_size, max_concurrent=_MAX_CONCURRENT_BATCHES_PER_EXECUTION
        )
        self._outcomes: dict[str, asyncio.Future[Value | None]] = {}

    def load(self, key: str) -> asyncio.Future[Value | None]:
        """Return the future of the value of the key, which is None if the key does not exist."""
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
        """Store values and errors for keys that have not been loaded yet, so that they are not loaded again."""
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
    """Set the outcome on the future of a caller, unless the caller was cancelled."""
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
    future.exception()  # asyncio would log an error that is never retrieved, for instance by a cancelled caller


def _pending(futures: Iterable[Iterable[Future]]) -> Iterator[Future]:
    return (future for each in futures for future in each if not future.done())
