"""How long each step took in earlier runs, so that clients can be told how long the rest will take."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from pydantic import TypeAdapter, ValidationError

from contracts.base import utc_now
from contracts.operations import Operation, OperationKind, OperationStatus, Step, StepStatus
from infrastructure.caching.cache import Cache
from infrastructure.tasks import supervised

EXCHANGE_SECONDS = 10.0
"""Between two exchanges with the other processes."""
CACHE_KEY = "operations:step_durations"
KEPT_SECONDS = 30 * 24 * 3600
RECENT = timedelta(minutes=1)
"""What ended longer ago was measured when it ended: it must not count again for being looked at."""
_SEEN = 10_000
_NEWS = 1_000
"""Measurements that wait to be shared; while the cache is away for long, the rest counts here only."""
_WEIGHT = 0.2
"""Of the newest run in the moving average: about the last ten runs count."""
_BEHIND = (StepStatus.COMPLETED, StepStatus.SKIPPED)
_SHARED = TypeAdapter(dict[str, float])


class Durations:
    """Moving averages in seconds a kind and step, learned as steps finish and shared with other processes."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._news: list[tuple[str, float]] = []
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def learn(self, operation: Operation) -> None:
        """Take the steps that have just finished into account, each once. One that was skipped took no time."""
        for step in operation.state.steps:
            if step.status not in _BEHIND or (operation.id, step.name) in self._seen:
                continue
            if (step.completed_at or operation.started_at) < utc_now() - RECENT:
                continue
            self._seen[operation.id, step.name] = None
            if len(self._seen) > _SEEN:
                self._seen.popitem(last=False)
            if step.status is StepStatus.SKIPPED:
                self._enter(_key(operation.kind, step), 0.0)
            elif step.started_at and step.completed_at:
                self._enter(_key(operation.kind, step), (step.completed_at - step.started_at).total_seconds())

    def remaining(self, operation: Operation) -> float | None:
        """Seconds until the operation is through; None where it is not on its way there or a step is unmeasured."""
        if operation.state.status is OperationStatus.COMPLETED:
            return 0.0
        if operation.state.status is not OperationStatus.RUNNING:
            return None
        total = 0.0
        for step in operation.state.steps:
            if step.status in _BEHIND:
                continue
            usual = self._seconds.get(_key(operation.kind, step))
            if usual is None:
                return None
            total += max(0.0, usual - _spent(step, usual))
        return total

    @asynccontextmanager
    async def shared(self, cache: Cache, *, every_seconds: float = EXCHANGE_SECONDS) -> AsyncIterator[None]:
        """Exchange them with the other processes, and with those that come after us, while the block runs."""
        await self.exchange(cache)
        try:
            async with supervised(lambda: self._exchange_regularly(cache, every_seconds), name="exchange durations"):
                yield
        finally:
            await self.exchange(cache)

    async def exchange(self, cache: Cache) -> None:
        """Take over what the others have learned, and add what we have; a later exchange mends one that fails."""
        news = list(self._news)
        found = await cache.get_many((CACHE_KEY,))
        if found is None:  # the cache is unavailable
            return
        text = found.get(CACHE_KEY)
        seconds = _read(text)
        if text is not None and seconds is None:  # an unreadable value could not be compared and replaced
            await cache.delete(CACHE_KEY)
            return
        if seconds is None:
            seconds = dict(self._seconds)  # the cache is new or was lost; our news are in them
        else:
            for step, taken in news:
                _average(seconds, step, taken)
        if news and not await _write(cache, seconds, instead_of=text):
            return  # another process was quicker, or the cache is unavailable
        self._news = self._news[len(news) :]
        for step, taken in self._news:
            _average(seconds, step, taken)
        self._seconds = seconds

    async def _exchange_regularly(self, cache: Cache, every_seconds: float) -> None:
        while True:
            await asyncio.sleep(every_seconds)
            await self.exchange(cache)

    def _enter(self, step: str, seconds: float) -> None:
        _average(self._seconds, step, seconds)
        if len(self._news) < _NEWS:
            self._news.append((step, seconds))


def _average(averages: dict[str, float], step: str, seconds: float) -> None:
    before = averages.get(step)
    averages[step] = seconds if before is None else before + _WEIGHT * (seconds - before)


async def _write(cache: Cache, seconds: dict[str, float], *, instead_of: str | None) -> bool:
    text = _SHARED.dump_json(seconds).decode()
    if instead_of is None:
        return bool(await cache.add(CACHE_KEY, text, ttl_seconds=KEPT_SECONDS))
    return bool(await cache.replace(CACHE_KEY, text, expected_value=instead_of, ttl_seconds=KEPT_SECONDS))


def _key(kind: OperationKind, step: Step) -> str:
    return f"{kind.value}.{step.name}"


def _read(text: str | None) -> dict[str, float] | None:
    try:
        return None if text is None else _SHARED.validate_json(text)
    except ValidationError:  # another release wrote it
        return None


def _spent(step: Step, usual: float) -> float:
    """Seconds of the step that lie behind, by the part done that it reports, or else by the clock."""
    if step.started_at is None:
        return 0.0
    if step.fraction is not None:
        return usual * step.fraction
    return (utc_now() - step.started_at).total_seconds()
