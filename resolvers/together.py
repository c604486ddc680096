"""Work that many ask for at the same time and that is done once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Generic, TypeVar

from infrastructure.tasks import SharedTask

Outcome = TypeVar("Outcome")


class Together(Generic[Outcome]):
    """Nothing is kept once the work has ended: who asks afterwards has it done anew."""

    def __init__(self) -> None:
        self._under_way: dict[str, SharedTask[Outcome]] = {}

    async def do(self, key: str, work: Callable[[], Coroutine[None, None, Outcome]]) -> Outcome:
        """The outcome of the work that is under way for this key, or of this one. It ends whoever stops waiting."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = SharedTask(work(), name="work that is done once")
            task.when_done(lambda: self._under_way.pop(key, None))
        return await task.result()
