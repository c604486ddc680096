"""Single flight: one execution of work for all callers that request the same work at the same time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeAlias, TypeVar

from infrastructure.tasks import SharedTask

Result = TypeVar("Result")
Work: TypeAlias = Callable[[], Coroutine[Any, Any, Result]]


class SingleFlight(Generic[Result]):
    """Runs work at most once per key at a time. Results and errors are not kept: a later call runs the work again."""

    def __init__(self) -> None:
        self._running: dict[Hashable, SharedTask[Result]] = {}

    async def aclose(self) -> None:
        """Cancel the running work; its callers receive CancelledError."""
        for task in list(self._running.values()):
            await task.stop()

    async def run(self, key: Hashable, work: Work[Result]) -> Result:
        """Return the result of the work that runs for this key; start the work if none runs.

        The cancellation of a caller does not cancel the work.

        Raises:
            Exception: The error of the work; every waiting caller receives it.
        """
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = SharedTask(work(), name="single flight")
            task.when_done(lambda: self._running.pop(key, None))
        return await task.result()


class Once(Generic[Result]):
    """Runs work at the first call and keeps the result. After an error, the next call runs the work again."""

    def __init__(self, work: Work[Result]) -> None:
        self._work = work
        self._flight: SingleFlight[Result] = SingleFlight()
        self._results: list[Result] = []

    async def result(self) -> Result:
        """Return the result of the work.

        Raises:
            Exception: The error of the work; every waiting caller receives it.
        """
        if not self._results:
            result = await self._flight.run(None, self._work)
            self._results = [result]
        return self._results[0]
