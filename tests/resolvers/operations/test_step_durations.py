"""Average step durations, the estimate of the remaining time, and the progress summary."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from contracts.base import utc_now
from contracts.operations import (
    Operation,
    OperationKind,
    OperationState,
    OperationStatus,
    Position,
    Step,
    StepStatus,
)
from infrastructure.caching.cache import Cache
from resolvers.operations.progress_summary import summarize_progress
from resolvers.operations.step_durations import CACHE_KEY, StepDurations
from tests.redis_access import flush, open_cache, redis_client


def completed_step(name: str, seconds: float) -> Step:
    """Return a completed step that took these seconds."""
    begun = utc_now()
    return Step(
        name=name, status=StepStatus.COMPLETED, started_at=begun, completed_at=begun + timedelta(seconds=seconds)
    )


def operation(number: int, status: OperationStatus, *steps: Step) -> Operation:
    """Return a login with this number, status and steps."""
    return Operation(
        id=f"login-{number:032x}",
        kind=OperationKind.LOGIN,
        user_id="usr",
        tenant_ids=(),
        state=OperationState(started_at=utc_now(), status=status, steps=steps),
        position=Position(revision=0),
    )


def test_estimates_nothing_without_measurements() -> None:
    waiting = operation(1, OperationStatus.RUNNING, Step(name="a"))
    assert summarize_progress(waiting, StepDurations()).estimated_seconds_remaining is None


def test_estimates_the_remaining_steps_from_earlier_durations() -> None:
    durations = StepDurations()
    durations.record(operation(1, OperationStatus.COMPLETED, completed_step("a", 2), completed_step("b", 4)))
    assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"), Step(name="b"))) == 6
    assert durations.remaining(operation(2, OperationStatus.RUNNING, completed_step("a", 9), Step(name="b"))) == 4


def test_subtracts_the_reported_fraction_of_a_running_step() -> None:
    durations = StepDurations()
    durations.record(operation(1, OperationStatus.COMPLETED, completed_step("a", 4)))
    half = Step(name="a", status=StepStatus.RUNNING, started_at=utc_now(), fraction=0.5)
    assert durations.remaining(operation(2, OperationStatus.RUNNING, half)) == 2


def test_measures_each_step_of_an_operation_once() -> None:
    durations = StepDurations()
    durations.record(operation(1, OperationStatus.COMPLETED, completed_step("a", 2)))
    for _ in range(50):
        durations.record(operation(2, OperationStatus.COMPLETED, completed_step("a", 12)))
    assert durations.remaining(operation(3, OperationStatus.RUNNING, Step(name="a"))) == pytest.approx(4)


def test_measures_a_finished_step_of_a_running_operation() -> None:
    durations = StepDurations()
    durations.record(operation(1, OperationStatus.RUNNING, completed_step("a", 2), Step(name="b")))
    assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"))) == 2
    assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"), Step(name="b"))) is None


def test_does_not_measure_unfinished_steps() -> None:
    durations = StepDurations()
    for status in (StepStatus.RUNNING, StepStatus.FAILED, StepStatus.COMPENSATED):
        durations.record(
            operation(1, OperationStatus.FAILED, completed_step("a", 2).model_copy(update={"status": status}))
        )
    assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"))) is None


def test_skipped_step_counts_as_zero_seconds() -> None:
    durations = StepDurations()
    durations.record(operation(1, OperationStatus.RUNNING, Step(name="a", status=StepStatus.SKIPPED)))
    assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"))) == 0


def test_does_not_measure_a_step_that_finished_over_a_minute_ago() -> None:
    durations = StepDurations()
    waiting = operation(9, OperationStatus.RUNNING, Step(name="a"))
    for number, ago in enumerate((61, 50)):
        assert durations.remaining(waiting) is None
        then = utc_now() - timedelta(seconds=ago)
        step = Step(name="a", status=StepStatus.COMPLETED, started_at=then - timedelta(seconds=2), completed_at=then)
        durations.record(operation(number, OperationStatus.COMPLETED, step))
    assert durations.remaining(waiting) == pytest.approx(2)


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Cache]:
    url = redis_url if request.param == "redis" else None
    await flush(url)
    async with open_cache(url) as cache:
        yield cache


async def test_shares_averages_with_running_and_later_processes(cache: Cache) -> None:
    one, other, later = StepDurations(), StepDurations(), StepDurations()
    waiting = operation(9, OperationStatus.RUNNING, Step(name="a"))
    async with other.syncing(cache, interval_seconds=0.02):
        async with one.syncing(cache):
            one.record(operation(1, OperationStatus.COMPLETED, completed_step("a", 4)))
        await asyncio.sleep(0.1)
        assert other.remaining(waiting) == 4
    async with later.syncing(cache):
        assert later.remaining(waiting) == 4


async def test_merges_measurements_of_two_processes_into_one_average(cache: Cache) -> None:
    one, other = StepDurations(), StepDurations()
    one.record(operation(1, OperationStatus.COMPLETED, completed_step("a", 2)))
    await one.sync(cache)
    await other.sync(cache)
    one.record(operation(2, OperationStatus.COMPLETED, completed_step("a", 12)))
    other.record(operation(3, OperationStatus.COMPLETED, completed_step("a", 4)))
    for each in (one, other, one):
        await each.sync(cache)
    waiting = operation(9, OperationStatus.RUNNING, Step(name="a"))
    assert one.remaining(waiting) == other.remaining(waiting) == pytest.approx(4)


async def test_concurrent_synchronizations_lose_no_measurement(redis_url: str) -> None:
    """All but one process find that the value in the cache has changed."""
    async with open_cache(redis_url) as cache:
        await flush(redis_url)
        await StepDurations().sync(cache)
        processes = [StepDurations() for _ in range(8)]
        steps = [Step(name=f"step-{number}") for number in range(len(processes))]
        for number, (each, step) in enumerate(zip(processes, steps, strict=True)):
            each.record(operation(number, OperationStatus.COMPLETED, completed_step(step.name, 2)))
        await asyncio.gather(*(each.sync(cache) for each in processes))
        for each in processes:
            await each.sync(cache)
        later = StepDurations()
        await later.sync(cache)
        assert later.remaining(operation(99, OperationStatus.RUNNING, *steps)) == 2 * len(steps)


async def test_measurement_during_a_synchronization_is_shared_by_the_next_one(redis_url: str) -> None:
    async with open_cache(redis_url) as cache:
        await flush(redis_url)
        before, one, later = StepDurations(), StepDurations(), StepDurations()
        before.record(operation(0, OperationStatus.COMPLETED, completed_step("c", 1)))
        await before.sync(cache)
        one.record(operation(1, OperationStatus.COMPLETED, completed_step("a", 2)))
        syncing = asyncio.create_task(one.sync(cache))
        await asyncio.sleep(0)
        one.record(operation(2, OperationStatus.COMPLETED, completed_step("b", 3)))
        await syncing
        assert one.remaining(operation(8, OperationStatus.RUNNING, Step(name="b"))) == 3
        await one.sync(cache)
        await later.sync(cache)
        assert later.remaining(operation(9, OperationStatus.RUNNING, Step(name="a"), Step(name="b"))) == 5


async def test_averages_expire_after_30_days(redis_url: str) -> None:
    async with open_cache(redis_url) as cache, Redis.from_url(redis_url) as redis:
        await flush(redis_url)
        one = StepDurations()
        one.record(operation(1, OperationStatus.COMPLETED, completed_step("a", 2)))
        await one.sync(cache)
        assert 30 * 24 * 3600 - 60 < await redis.ttl("operations:step_durations") <= 30 * 24 * 3600


async def test_memory_is_bounded_while_nothing_is_synchronized() -> None:
    durations = StepDurations()
    tracemalloc.start()
    try:
        for number in range(30_000):
            durations.record(operation(number, OperationStatus.COMPLETED, completed_step("a", 2)))
            if number == 12_000:
                held = tracemalloc.get_traced_memory()[0]
        assert tracemalloc.get_traced_memory()[0] < 1.2 * held
    finally:
        tracemalloc.stop()


async def test_refills_an_empty_cache_with_local_averages(cache: Cache) -> None:
    one, other = StepDurations(), StepDurations()
    one.record(operation(1, OperationStatus.COMPLETED, completed_step("a", 2)))
    await one.sync(cache)
    await cache.delete(CACHE_KEY)
    one.record(operation(2, OperationStatus.COMPLETED, completed_step("b", 3)))
    await one.sync(cache)
    await other.sync(cache)
    assert other.remaining(operation(9, OperationStatus.RUNNING, Step(name="a"), Step(name="b"))) == 5


async def test_keeps_local_averages_while_the_cache_is_unavailable() -> None:
    durations = StepDurations()
    async with (
        open_cache("redis://127.0.0.1:1/0") as unavailable,
        durations.syncing(unavailable, interval_seconds=0.01),
    ):
        durations.record(operation(1, OperationStatus.COMPLETED, completed_step("a", 2)))
        await asyncio.sleep(0.05)
        assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"))) == 2


def test_fraction_counts_finished_steps_and_the_fraction_of_the_current_one() -> None:
    skipped = Step(name="b", status=StepStatus.SKIPPED)
    current = Step(name="c", status=StepStatus.RETRYING, started_at=utc_now(), fraction=0.5)
    summary = summarize_progress(
        operation(1, OperationStatus.RUNNING, completed_step("a", 1), skipped, current, Step(name="d")), StepDurations()
    )
    assert (summary.current_step, summary.completed_steps, summary.total_steps, summary.fraction) == ("c", 2, 4, 0.625)


async def test_replaces_an_unreadable_cache_value_with_local_averages(redis_url: str) -> None:
    async with open_cache(redis_url) as cache, redis_client(redis_url) as redis:
        await redis.set(CACHE_KEY, b"\xff\xfe")
        durations, others = StepDurations(), StepDurations()
        durations.record(operation(1, OperationStatus.COMPLETED, completed_step("a", 2)))
        async with durations.syncing(cache, interval_seconds=0.02):
            async with asyncio.timeout(5):
                while others.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"))) != 2:
                    await others.sync(cache)
                    await asyncio.sleep(0.02)
        await redis.delete(CACHE_KEY)
