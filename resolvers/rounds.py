"""Questions that come one by one and are asked of others many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from infrastructure.tasks import BackgroundTasks

Answer = TypeVar("Answer")
Future = TypeVar("Future", bound=asyncio.Future[Any])


class Rounds(Generic[Answer]):
    """``ask`` answers some keys at once; those that its answer lacks are answered with None.

    Nobody is answered by a round that began before they asked, so that who asks after a change is told of it. At most
    ``at_once`` rounds of at most ``most`` keys are under way; the others wait, which counts against no round's time.
    """

    def __init__(
        self, ask: Callable[[Sequence[str]], Awaitable[Mapping[str, Answer]]], *, most: int, at_once: int
    ) -> None:
        self._ask = ask
        self._most = most
        self._at_once = at_once
        self._waiting: dict[str, list[asyncio.Future[Answer | None]]] = {}
        self._under_way = 0
        self._tasks = BackgroundTasks()

    async def aclose(self) -> None:
        """End the running rounds and cancel their callers."""
        await self._tasks.aclose()
        for future in _still_waiting(self._waiting.values()):
            future.cancel()
        self._waiting.clear()

    async def answer(self, key: str) -> Answer | None:
        """The answer of the next round. Raises as ``ask`` does, to all of the round."""
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._under_way < self._at_once:
            self._under_way += 1
            self._tasks.start(self._run(), name="a round of questions")
        return await future

    async def _run(self) -> None:
        try:
            while keys := tuple(islice(self._waiting, self._most)):
                await self._round({key: self._waiting.pop(key) for key in keys})
        finally:
            self._under_way -= 1

    async def _round(self, asking: Mapping[str, Sequence[asyncio.Future[Answer | None]]]) -> None:
        try:
            answers = await self._ask(tuple(asking))
            for key, futures in asking.items():
                answer = answers.get(key)
                for future in _still_waiting((futures,)):
                    future.set_result(answer)
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            for future in _still_waiting(asking.values()):
                future.set_exception(error)
        except BaseException:
            for future in _still_waiting(asking.values()):
                future.cancel()
            raise


def _still_waiting(futures: Iterable[Iterable[Future]]) -> Iterator[Future]:
    return (future for each in futures for future in each if not future.done())
