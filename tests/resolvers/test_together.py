"""Work that many ask for at the same time is done once, and not kept."""

from __future__ import annotations

import asyncio

import pytest

from contracts.errors import RateLimited
from resolvers.together import Together


class Work:
    """Ends when it is let go; counts how often it was begun."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = 0
        self.go = asyncio.Event()
        self._error = error

    async def __call__(self) -> int:
        self.begun += 1
        await self.go.wait()
        if self._error is not None:
            raise self._error
        return self.begun


async def test_those_who_ask_at_the_same_time_share_the_outcome_and_those_after_them_do_not() -> None:
    together, work = Together[int](), Work()
    asking = [asyncio.create_task(together.do("key", work)) for _ in range(10)]
    await asyncio.sleep(0)
    work.go.set()
    assert await asyncio.gather(*asking) == [1] * 10
    assert await together.do("key", work) == 2


async def test_another_key_is_other_work() -> None:
    together, work = Together[int](), Work()
    work.go.set()
    await asyncio.gather(together.do("one", work), together.do("other", work))
    assert work.begun == 2


async def test_an_error_is_everybodys() -> None:
    together, work = Together[int](), Work(RateLimited())
    asking = [asyncio.create_task(together.do("key", work)) for _ in range(3)]
    await asyncio.sleep(0)
    work.go.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RateLimited] * 3


async def test_who_leaves_takes_nothing_from_the_others() -> None:
    together, work = Together[int](), Work()
    first, second = (asyncio.create_task(together.do("key", work)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.go.set()
    assert await second == 1
