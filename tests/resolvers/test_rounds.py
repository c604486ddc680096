"""Many questions at one moment are few rounds, and no answer is older than its question."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from contracts.errors import RateLimited
from resolvers.rounds import Rounds


class Asked:
    """Answers each key with the number of its round, once it is let go; knows nothing of "absent"."""

    def __init__(self) -> None:
        self.rounds: list[Sequence[str]] = []
        self.go = asyncio.Event()
        self.most_at_once = 0
        self._at_once = 0

    async def __call__(self, keys: Sequence[str]) -> Mapping[str, int]:
        self.rounds.append(keys)
        number = len(self.rounds)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await self.go.wait()
        self._at_once -= 1
        if "trouble" in keys:
            raise RateLimited()
        return {key: number for key in keys if key != "absent"}


async def test_what_is_asked_at_one_moment_is_asked_in_one_round_and_each_key_once() -> None:
    asked = Asked()
    asked.go.set()
    rounds = Rounds(asked, most=10, at_once=1)
    answers = await asyncio.gather(*(rounds.answer(key) for key in ("a", "b", "a", "absent")))
    assert answers == [1, 1, 1, None]
    assert asked.rounds == [("a", "b", "absent")]


async def test_who_asks_while_a_round_is_under_way_is_answered_by_the_next() -> None:
    asked = Asked()
    rounds = Rounds(asked, most=10, at_once=1)
    early = asyncio.create_task(rounds.answer("a"))
    await asyncio.sleep(0.01)
    late = [asyncio.create_task(rounds.answer("a")) for _ in range(5)]
    await asyncio.sleep(0.01)
    asked.go.set()
    assert await early == 1
    assert await asyncio.gather(*late) == [2] * 5


async def test_neither_more_keys_nor_more_rounds_are_asked_at_once_than_allowed() -> None:
    asked = Asked()
    rounds = Rounds(asked, most=3, at_once=2)
    asking = [asyncio.create_task(rounds.answer(str(number))) for number in range(20)]
    await asyncio.sleep(0.01)
    asked.go.set()
    assert None not in await asyncio.gather(*asking)
    assert asked.most_at_once == 2
    assert max(map(len, asked.rounds)) == 3


async def test_trouble_is_told_to_its_own_round_alone_and_the_next_one_goes_on() -> None:
    asked = Asked()
    asked.go.set()
    rounds = Rounds(asked, most=1, at_once=1)
    answers = await asyncio.gather(rounds.answer("trouble"), rounds.answer("a"), return_exceptions=True)
    assert isinstance(answers[0], RateLimited)
    assert answers[1] == 2


async def test_who_leaves_takes_nothing_from_the_others() -> None:
    asked = Asked()
    rounds = Rounds(asked, most=10, at_once=1)
    first, second = (asyncio.create_task(rounds.answer("a")) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    asked.go.set()
    assert await second == 1


async def test_whoever_asks_on_as_soon_as_they_are_answered_is_answered_again() -> None:
    asked = Asked()
    asked.go.set()
    rounds = Rounds(asked, most=10, at_once=1)

    async def ask_on() -> None:
        for _ in range(20):
            await rounds.answer("a")

    async with asyncio.timeout(5):
        await asyncio.gather(*(ask_on() for _ in range(3)))


async def test_callers_are_cancelled_when_rounds_are_closed() -> None:
    asked = Asked()
    rounds = Rounds(asked, most=1, at_once=1)
    waiting = [asyncio.create_task(rounds.answer(key)) for key in ("under way", "still waiting")]
    await asyncio.sleep(0.01)
    await rounds.aclose()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
