"""SingleFlight and Once: work that several callers request at the same time runs once."""

from __future__ import annotations

import asyncio

import pytest

from contracts.errors import RateLimited
from infrastructure.caching.single_flight import Once, SingleFlight


class Work:
    """Work that ends after ``go`` is set, with an error if one is given; counts its starts."""

    def __init__(self, error: Exception | None = None) -> None:
        self.started = 0
        self.go = asyncio.Event()
        self._error = error

    async def __call__(self) -> int:
        self.started += 1
        await self.go.wait()
        if self._error is not None:
            raise self._error
        return self.started


async def test_simultaneous_callers_share_one_result_and_later_callers_do_not() -> None:
    flight, work = SingleFlight[int](), Work()
    asking = [asyncio.create_task(flight.run("key", work)) for _ in range(10)]
    await asyncio.sleep(0)
    work.go.set()
    assert await asyncio.gather(*asking) == [1] * 10
    assert await flight.run("key", work) == 2


async def test_different_keys_run_separate_work() -> None:
    flight, work = SingleFlight[int](), Work()
    work.go.set()
    await asyncio.gather(flight.run("one", work), flight.run("other", work))
    assert work.started == 2


async def test_error_reaches_every_caller_and_is_not_kept() -> None:
    flight, work = SingleFlight[int](), Work(RateLimited())
    asking = [asyncio.create_task(flight.run("key", work)) for _ in range(3)]
    await asyncio.sleep(0)
    work.go.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RateLimited] * 3
    assert work.started == 1
    with pytest.raises(RateLimited):
        await flight.run("key", work)
    assert work.started == 2


async def test_cancelled_caller_does_not_cancel_other_callers() -> None:
    flight, work = SingleFlight[int](), Work()
    first, second = (asyncio.create_task(flight.run("key", work)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.go.set()
    assert await second == 1


async def test_work_continues_when_its_only_caller_is_cancelled() -> None:
    flight, work = SingleFlight[int](), Work()
    cancelled = asyncio.create_task(flight.run("key", work))
    await asyncio.sleep(0.01)
    cancelled.cancel()
    await asyncio.sleep(0.01)
    later = asyncio.create_task(flight.run("key", work))
    await asyncio.sleep(0)
    work.go.set()
    assert await later == 1, "the work that was running is shared"


async def test_closing_cancels_the_work_and_its_callers() -> None:
    flight, work = SingleFlight[int](), Work()
    waiting = asyncio.create_task(flight.run("key", work))
    await asyncio.sleep(0.01)
    await flight.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_once_keeps_the_result_for_all_callers() -> None:
    work = Work()
    once = Once(work)
    waiting = [asyncio.create_task(once.result()) for _ in range(3)]
    await asyncio.sleep(0)
    work.go.set()
    assert await asyncio.gather(*waiting) == [1] * 3
    assert await once.result() == 1


async def test_once_runs_again_after_an_error() -> None:
    errors: list[Exception] = [RateLimited()]
    started = 0

    async def work() -> int:
        nonlocal started
        started += 1
        await asyncio.sleep(0)
        if errors:
            raise errors[0]
        return started

    once = Once(work)
    outcomes = await asyncio.gather(*(once.result() for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RateLimited] * 3
    assert started == 1
    errors.clear()
    assert [await once.result(), await once.result()] == [2, 2]
