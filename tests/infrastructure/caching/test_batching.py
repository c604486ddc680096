"""Batching and DataLoader: batches, concurrency, errors and cancellation; no value is older than its request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from contracts.errors import RateLimited
from infrastructure.caching.batching import Batching, DataLoader


class Source:
    """Loads the number of the batch for each key, after ``go`` is set. The key "absent" does not exist."""

    def __init__(self) -> None:
        self.batches: list[Sequence[str]] = []
        self.go = asyncio.Event()
        self.max_concurrent = 0
        self._running = 0

    async def __call__(self, keys: Sequence[str]) -> Mapping[str, int]:
        self.batches.append(keys)
        number = len(self.batches)
        self._running += 1
        self.max_concurrent = max(self.max_concurrent, self._running)
        await self.go.wait()
        self._running -= 1
        if "failing" in keys:
            raise RateLimited()
        return {key: number for key in keys if key != "absent"}


async def test_loads_keys_of_simultaneous_callers_in_one_batch_each_key_once() -> None:
    source = Source()
    source.go.set()
    batching = Batching(source, max_batch_size=10, max_concurrent=1)
    answers = await asyncio.gather(*(batching.load(key) for key in ("a", "b", "a", "absent")))
    assert answers == [1, 1, 1, None]
    assert source.batches == [("a", "b", "absent")]


async def test_call_during_a_batch_receives_the_value_of_the_next_batch() -> None:
    source = Source()
    batching = Batching(source, max_batch_size=10, max_concurrent=1)
    early = asyncio.ensure_future(batching.load("a"))
    await asyncio.sleep(0.01)
    late = [asyncio.ensure_future(batching.load("a")) for _ in range(5)]
    await asyncio.sleep(0.01)
    source.go.set()
    assert await early == 1
    assert await asyncio.gather(*late) == [2] * 5


async def test_limits_size_and_concurrency_of_batches() -> None:
    source = Source()
    batching = Batching(source, max_batch_size=3, max_concurrent=2)
    asking = [asyncio.ensure_future(batching.load(str(number))) for number in range(20)]
    await asyncio.sleep(0.01)
    source.go.set()
    assert None not in await asyncio.gather(*asking)
    assert source.max_concurrent == 2
    assert max(map(len, source.batches)) == 3


async def test_error_of_a_batch_does_not_affect_the_next_batch() -> None:
    source = Source()
    source.go.set()
    batching = Batching(source, max_batch_size=1, max_concurrent=1)
    answers = await asyncio.gather(batching.load("failing"), batching.load("a"), return_exceptions=True)
    assert isinstance(answers[0], RateLimited)
    assert answers[1] == 2


async def test_cancelled_caller_does_not_cancel_other_callers() -> None:
    source = Source()
    batching = Batching(source, max_batch_size=10, max_concurrent=1)
    first, second = (asyncio.ensure_future(batching.load("a")) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.go.set()
    assert await second == 1


async def test_caller_can_load_again_immediately_after_a_value() -> None:
    source = Source()
    source.go.set()
    batching = Batching(source, max_batch_size=10, max_concurrent=1)

    async def ask_on() -> None:
        for _ in range(20):
            await batching.load("a")

    async with asyncio.timeout(5):
        await asyncio.gather(*(ask_on() for _ in range(3)))


async def test_closing_cancels_the_callers() -> None:
    source = Source()
    batching = Batching(source, max_batch_size=1, max_concurrent=1)
    waiting = [asyncio.ensure_future(batching.load(key)) for key in ("under way", "still waiting")]
    await asyncio.sleep(0.01)
    await batching.aclose()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2


async def test_error_of_a_batch_reaches_all_its_callers_and_is_not_kept() -> None:
    source = Source()
    source.go.set()
    batching = Batching(source, max_batch_size=10, max_concurrent=1)
    outcomes = await asyncio.gather(*(batching.load(key) for key in ("failing", "a", "a")), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RateLimited] * 3
    assert await batching.load("a") == 2


async def test_error_value_is_raised_only_to_the_callers_of_its_key() -> None:
    async def load(keys: Sequence[str]) -> Mapping[str, int | Exception]:
        return {"good": 1, "bad": RateLimited()}

    batching: Batching[int] = Batching(load, max_batch_size=10, max_concurrent=1)
    outcomes = await asyncio.gather(*(batching.load(key) for key in ("good", "bad", "bad")), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int, RateLimited, RateLimited]


async def test_does_not_load_a_key_whose_callers_were_all_cancelled() -> None:
    source = Source()
    batching = Batching(source, max_batch_size=10, max_concurrent=1)
    running = batching.load("running")
    await asyncio.sleep(0.01)
    left, stays = batching.load("left"), batching.load("stays")
    left.cancel()
    source.go.set()
    assert (await running, await stays) == (1, 2)
    assert source.batches == [("running",), ("stays",)]


async def test_data_loader_loads_each_key_once_and_keeps_the_value() -> None:
    source = Source()
    source.go.set()
    loader = DataLoader(source, max_batch_size=10)
    assert await asyncio.gather(*(loader.load(key) for key in ("a", "b", "a", "absent"))) == [1, 1, 1, None]
    assert [await each for each in (loader.load("a"), loader.load("c"), loader.load("absent"))] == [1, 2, None]
    assert source.batches == [("a", "b", "absent"), ("c",)]


async def test_data_loader_joins_the_batch_that_loads_the_key() -> None:
    source = Source()
    loader = DataLoader(source, max_batch_size=10)
    early = loader.load("a")
    await asyncio.sleep(0.01)
    late = loader.load("a")
    source.go.set()
    assert (await early, await late) == (1, 1)


async def test_cancelled_caller_of_a_data_loader_does_not_cancel_other_callers() -> None:
    source = Source()
    loader = DataLoader(source, max_batch_size=10)
    first, second = loader.load("a"), loader.load("a")
    await asyncio.sleep(0.01)
    first.cancel()
    source.go.set()
    assert await second == 1
    assert await loader.load("a") == 1


async def test_data_loader_keeps_an_error_for_its_execution() -> None:
    source = Source()
    source.go.set()
    loader = DataLoader(source, max_batch_size=10)
    for _ in range(2):
        outcomes = await asyncio.gather(loader.load("failing"), loader.load("failing"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [RateLimited] * 2
    assert len(source.batches) == 1


async def test_primed_keys_are_not_loaded() -> None:
    source = Source()
    source.go.set()
    loader = DataLoader(source, max_batch_size=10)
    assert await loader.load("loaded") == 1
    loader.prime({"value": 5, "nothing": None, "error": RateLimited(), "loaded": 7})
    assert [await loader.load(key) for key in ("value", "nothing", "loaded")] == [5, None, 1]
    with pytest.raises(RateLimited):
        await loader.load("error")
    assert source.batches == [("loaded",)]


async def test_call_in_the_next_event_loop_iteration_joins_the_batch() -> None:
    """A field that is resolved together with another one may load a moment later."""
    source = Source()
    source.go.set()
    loader = DataLoader(source, max_batch_size=10)

    async def load_later() -> int | None:
        return await loader.load("b")

    early = loader.load("a")
    late = asyncio.create_task(load_later())
    assert (await early, await late) == (1, 1)
    assert source.batches == [("a", "b")]


async def test_cancels_the_callers_when_load_cancels_itself() -> None:
    started: list[tuple[str, ...]] = []

    async def load(keys: Sequence[str]) -> Mapping[str, str]:
        started.append(tuple(keys))
        await asyncio.sleep(0.01)
        if "a" in keys:
            raise asyncio.CancelledError
        return dict.fromkeys(keys, "value")

    batching: Batching[str] = Batching(load, max_batch_size=10, max_concurrent=1)
    first = batching.load("a")
    await asyncio.sleep(0.005)
    second = batching.load("b")
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await asyncio.wait_for(second, 5) == "value"
    assert started == [("a",), ("b",)]
