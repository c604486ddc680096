"""How long the rest takes, from what earlier runs took; and how far it is."""

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
from resolvers.operations.progress_summary import progress
from resolvers.operations.step_durations import CACHE_KEY, Durations
from tests.redis_access import flush, open_cache, redis_client


def ran(name: str, seconds: float) -> Step:
    begun = utc_now()
    return Step(
        name=name, status=StepStatus.COMPLETED, started_at=begun, completed_at=begun + timedelta(seconds=seconds)
    )


def operation(number: int, status: OperationStatus, *steps: Step) -> Operation:
    return Operation(
        id=f"login-{number:032x}",
        kind=OperationKind.LOGIN,
        user_id="usr",
        tenant_ids=(),
        state=OperationState(started_at=utc_now(), status=status, steps=steps),
        position=Position(revision=0),
    )


def test_nothing_is_estimated_before_a_run_was_measured() -> None:
    waiting = operation(1, OperationStatus.RUNNING, Step(name="a"))
    assert progress(waiting, Durations()).estimated_seconds_remaining is None


def test_the_rest_takes_as_long_as_it_took_before() -> None:
    durations = Durations()
    durations.learn(operation(1, OperationStatus.COMPLETED, ran("a", 2), ran("b", 4)))
    assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"), Step(name="b"))) == 6
    assert durations.remaining(operation(2, OperationStatus.RUNNING, ran("a", 9), Step(name="b"))) == 4


def test_what_a_step_reports_counts_as_done() -> None:
    durations = Durations()
    durations.learn(operation(1, OperationStatus.COMPLETED, ran("a", 4)))
    half = Step(name="a", status=StepStatus.RUNNING, started_at=utc_now(), fraction=0.5)
    assert durations.remaining(operation(2, OperationStatus.RUNNING, half)) == 2


def test_a_run_counts_once_however_often_it_is_looked_at() -> None:
    durations = Durations()
    durations.learn(operation(1, OperationStatus.COMPLETED, ran("a", 2)))
    for _ in range(50):
        durations.learn(operation(2, OperationStatus.COMPLETED, ran("a", 12)))
    assert durations.remaining(operation(3, OperationStatus.RUNNING, Step(name="a"))) == pytest.approx(4)


def test_a_step_teaches_as_it_finishes_whatever_becomes_of_the_operation() -> None:
    durations = Durations()
    durations.learn(operation(1, OperationStatus.RUNNING, ran("a", 2), Step(name="b")))
    assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"))) == 2
    assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"), Step(name="b"))) is None


def test_a_step_that_did_not_finish_teaches_nothing() -> None:
    durations = Durations()
    for status in (StepStatus.RUNNING, StepStatus.FAILED, StepStatus.COMPENSATED):
        durations.learn(operation(1, OperationStatus.FAILED, ran("a", 2).model_copy(update={"status": status})))
    assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"))) is None


def test_a_step_that_was_skipped_takes_no_time() -> None:
    durations = Durations()
    durations.learn(operation(1, OperationStatus.RUNNING, Step(name="a", status=StepStatus.SKIPPED)))
    assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"))) == 0


def test_what_ended_more_than_a_minute_ago_does_not_count_again_for_being_looked_at() -> None:
    durations = Durations()
    waiting = operation(9, OperationStatus.RUNNING, Step(name="a"))
    for number, ago in enumerate((61, 50)):
        assert durations.remaining(waiting) is None
        then = utc_now() - timedelta(seconds=ago)
        step = Step(name="a", status=StepStatus.COMPLETED, started_at=then - timedelta(seconds=2), completed_at=then)
        durations.learn(operation(number, OperationStatus.COMPLETED, step))
    assert durations.remaining(waiting) == pytest.approx(2)


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Cache]:
    url = redis_url if request.param == "redis" else None
    await flush(url)
    async with open_cache(url) as cache:
        yield cache


async def test_what_one_process_learned_the_others_know_and_those_that_come_after_it(cache: Cache) -> None:
    one, other, later = Durations(), Durations(), Durations()
    waiting = operation(9, OperationStatus.RUNNING, Step(name="a"))
    async with other.shared(cache, every_seconds=0.02):
        async with one.shared(cache):
            one.learn(operation(1, OperationStatus.COMPLETED, ran("a", 4)))
        await asyncio.sleep(0.1)
        assert other.remaining(waiting) == 4
    async with later.shared(cache):
        assert later.remaining(waiting) == 4


async def test_what_two_processes_learn_meets_in_one_average(cache: Cache) -> None:
    one, other = Durations(), Durations()
    one.learn(operation(1, OperationStatus.COMPLETED, ran("a", 2)))
    await one.exchange(cache)
    await other.exchange(cache)
    one.learn(operation(2, OperationStatus.COMPLETED, ran("a", 12)))
    other.learn(operation(3, OperationStatus.COMPLETED, ran("a", 4)))
    for each in (one, other, one):
        await each.exchange(cache)
    waiting = operation(9, OperationStatus.RUNNING, Step(name="a"))
    assert one.remaining(waiting) == other.remaining(waiting) == pytest.approx(4)


async def test_of_processes_that_share_at_one_moment_none_loses_what_it_learned(redis_url: str) -> None:
    """All but one of them find that another was quicker."""
    async with open_cache(redis_url) as cache:
        await flush(redis_url)
        await Durations().exchange(cache)
        processes = [Durations() for _ in range(8)]
        steps = [Step(name=f"step-{number}") for number in range(len(processes))]
        for number, (each, step) in enumerate(zip(processes, steps, strict=True)):
            each.learn(operation(number, OperationStatus.COMPLETED, ran(step.name, 2)))
        await asyncio.gather(*(each.exchange(cache) for each in processes))
        for each in processes:
            await each.exchange(cache)
        later = Durations()
        await later.exchange(cache)
        assert later.remaining(operation(99, OperationStatus.RUNNING, *steps)) == 2 * len(steps)


async def test_what_is_learned_during_an_exchange_is_shared_by_the_next(redis_url: str) -> None:
    async with open_cache(redis_url) as cache:
        await flush(redis_url)
        before, one, later = Durations(), Durations(), Durations()
        before.learn(operation(0, OperationStatus.COMPLETED, ran("c", 1)))
        await before.exchange(cache)
        one.learn(operation(1, OperationStatus.COMPLETED, ran("a", 2)))
        exchanging = asyncio.create_task(one.exchange(cache))
        await asyncio.sleep(0)
        one.learn(operation(2, OperationStatus.COMPLETED, ran("b", 3)))
        await exchanging
        assert one.remaining(operation(8, OperationStatus.RUNNING, Step(name="b"))) == 3
        await one.exchange(cache)
        await later.exchange(cache)
        assert later.remaining(operation(9, OperationStatus.RUNNING, Step(name="a"), Step(name="b"))) == 5


async def test_what_was_learned_is_kept_for_30_days(redis_url: str) -> None:
    async with open_cache(redis_url) as cache, Redis.from_url(redis_url) as redis:
        await flush(redis_url)
        one = Durations()
        one.learn(operation(1, OperationStatus.COMPLETED, ran("a", 2)))
        await one.exchange(cache)
        assert 30 * 24 * 3600 - 60 < await redis.ttl("operations:step_durations") <= 30 * 24 * 3600


async def test_memory_stays_bounded_however_much_is_learned_while_nothing_is_shared() -> None:
    durations = Durations()
    tracemalloc.start()
    try:
        for number in range(30_000):
            durations.learn(operation(number, OperationStatus.COMPLETED, ran("a", 2)))
            if number == 12_000:
                held = tracemalloc.get_traced_memory()[0]
        assert tracemalloc.get_traced_memory()[0] < 1.2 * held
    finally:
        tracemalloc.stop()


async def test_a_cache_that_was_lost_is_filled_again_from_what_a_process_knows(cache: Cache) -> None:
    one, other = Durations(), Durations()
    one.learn(operation(1, OperationStatus.COMPLETED, ran("a", 2)))
    await one.exchange(cache)
    await cache.delete(CACHE_KEY)
    one.learn(operation(2, OperationStatus.COMPLETED, ran("b", 3)))
    await one.exchange(cache)
    await other.exchange(cache)
    assert other.remaining(operation(9, OperationStatus.RUNNING, Step(name="a"), Step(name="b"))) == 5


async def test_a_cache_that_is_away_takes_nothing_from_what_a_process_knows() -> None:
    durations = Durations()
    async with open_cache("redis://127.0.0.1:1/0") as away, durations.shared(away, every_seconds=0.01):
        durations.learn(operation(1, OperationStatus.COMPLETED, ran("a", 2)))
        await asyncio.sleep(0.05)
        assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"))) == 2


def test_steps_behind_and_the_part_done_of_the_one_under_way_make_the_fraction() -> None:
    skipped = Step(name="b", status=StepStatus.SKIPPED)
    under_way = Step(name="c", status=StepStatus.RETRYING, started_at=utc_now(), fraction=0.5)
    shown = progress(
        operation(1, OperationStatus.RUNNING, ran("a", 1), skipped, under_way, Step(name="d")), Durations()
    )
    assert (shown.current_step, shown.completed_steps, shown.total_steps, shown.fraction) == ("c", 2, 4, 0.625)


async def test_bytes_that_are_no_text_are_replaced_by_what_a_process_knows(redis_url: str) -> None:
    async with open_cache(redis_url) as cache, redis_client(redis_url) as redis:
        await redis.set(CACHE_KEY, b"\xff\xfe")
        durations, others = Durations(), Durations()
        durations.learn(operation(1, OperationStatus.COMPLETED, ran("a", 2)))
        async with durations.shared(cache, every_seconds=0.02):
            async with asyncio.timeout(5):
                while others.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"))) != 2:
                    await others.exchange(cache)
                    await asyncio.sleep(0.02)
        await redis.delete(CACHE_KEY)
