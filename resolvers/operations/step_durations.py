"""Average durations of the steps of operations, used to estimate the remaining time; shared by all processes."""

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

SYNC_INTERVAL_SECONDS = 10.0
"""Interval between two synchronizations with the cache."""
CACHE_KEY = "operations:step_durations"
TTL_SECONDS = 30 * 24 * 3600
MAX_STEP_AGE = timedelta(minutes=1)
"""A step that finished earlier is not measured, because it was measured when it finished."""
_MAX_REMEMBERED_STEPS = 10_000
_MAX_UNSYNCED = 1_000
"""Maximum number of measurements that wait for a synchronization; further ones count in this process only."""
_SMOOTHING_FACTOR = 0.2
"""Weight of a new measurement in the moving average; about the last ten measurements count."""
_FINISHED = (StepStatus.COMPLETED, StepStatus.SKIPPED)
_AVERAGES = TypeAdapter(dict[str, float])


class StepDurations:
    """Moving average of the duration of each step in seconds, by kind of operation and step."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._unsynced: list[tuple[str, float]] = []
        self._recorded: OrderedDict[tuple[str, str], None] = OrderedDict()

    def record(self, operation: Operation) -> None:
        """Measure the steps that have just finished, each once; a skipped step counts as 0 seconds."""
        for step in operation.state.steps:
            if step.status not in _FINISHED or (operation.id, step.name) in self._recorded:
                continue
            if (step.completed_at or operation.started_at) < utc_now() - MAX_STEP_AGE:
                continue
            self._recorded[operation.id, step.name] = None
            if len(self._recorded) > _MAX_REMEMBERED_STEPS:
                self._recorded.popitem(last=False)
            if step.status is StepStatus.SKIPPED:
                self._add_measurement(_step_key(operation.kind, step), 0.0)
            elif step.started_at and step.completed_at:
                self._add_measurement(
                    _step_key(operation.kind, step), (step.completed_at - step.started_at).total_seconds()
                )

    def remaining(self, operation: Operation) -> float | None:
        """Return the estimated seconds until the operation completes.

        None if the operation is not running, or if one of the remaining steps was never measured.
        """
        if operation.state.status is OperationStatus.COMPLETED:
            return 0.0
        if operation.state.status is not OperationStatus.RUNNING:
            return None
        total = 0.0
        for step in operation.state.steps:
            if step.status in _FINISHED:
                continue
            average = self._seconds.get(_step_key(operation.kind, step))
            if average is None:
                return None
            total += max(0.0, average - _elapsed(step, average))
        return total

    @asynccontextmanager
    async def syncing(self, cache: Cache, *, interval_seconds: float = SYNC_INTERVAL_SECONDS) -> AsyncIterator[None]:
        """Synchronize the averages with the other processes at an interval while the block runs."""
        await self.sync(cache)
        try:
            async with supervised(lambda: self._sync_regularly(cache, interval_seconds), name="sync step durations"):
                yield
        finally:
            await self.sync(cache)

    async def sync(self, cache: Cache) -> None:
        """Read the averages of all processes from the cache and add the new measurements of this process.

        If the cache is unavailable, or another process writes at the same time, a later call does it.
        """
        unsynced = list(self._unsynced)
        found = await cache.get_many((CACHE_KEY,))
        if found is None:  # the cache is unavailable
            return
        text = found.get(CACHE_KEY)
        seconds = _parse(text)
        if text is not None and seconds is None:  # an unreadable value cannot be replaced by comparison
            await cache.delete(CACHE_KEY)
            return
        if seconds is None:
            seconds = dict(self._seconds)  # the cache is empty; these averages include the new measurements
        else:
            for step, measured in unsynced:
                _update_average(seconds, step, measured)
        if unsynced and not await _write(cache, seconds, expected_value=text):
            return  # another process has replaced the value, or the cache is unavailable
        self._unsynced = self._unsynced[len(unsynced) :]
        for step, measured in self._unsynced:
            _update_average(seconds, step, measured)
        self._seconds = seconds

    async def _sync_regularly(self, cache: Cache, interval_seconds: float) -> None:
        while True:
            await asyncio.sleep(interval_seconds)
            await self.sync(cache)

    def _add_measurement(self, step: str, seconds: float) -> None:
        _update_average(self._seconds, step, seconds)
        if len(self._unsynced) < _MAX_UNSYNCED:
            self._unsynced.append((step, seconds))


def _update_average(averages: dict[str, float], step: str, seconds: float) -> None:
    previous = averages.get(step)
    averages[step] = seconds if previous is None else previous + _SMOOTHING_FACTOR * (seconds - previous)


async def _write(cache: Cache, seconds: dict[str, float], *, expected_value: str | None) -> bool:
    text = _AVERAGES.dump_json(seconds).decode()
    if expected_value is None:
        return bool(await cache.add(CACHE_KEY, text, ttl_seconds=TTL_SECONDS))
    return bool(await cache.replace(CACHE_KEY, text, expected_value=expected_value, ttl_seconds=TTL_SECONDS))


def _step_key(kind: OperationKind, step: Step) -> str:
    return f"{kind.value}.{step.name}"


def _parse(text: str | None) -> dict[str, float] | None:
    try:
        return None if text is None else _AVERAGES.validate_json(text)
    except ValidationError:  # another release wrote the value
        return None


def _elapsed(step: Step, average: float) -> float:
    """Return the elapsed seconds of the step: from its reported fraction if there is one, otherwise by the clock."""
    if step.started_at is None:
        return 0.0
    if step.fraction is not None:
        return average * step.fraction
    return (utc_now() - step.started_at).total_seconds()
