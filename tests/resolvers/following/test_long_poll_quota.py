"""What a process asks of Temporal for all that it follows, together."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest

from resolvers.following.long_poll_quota import MAX_READS_PER_SECOND, LongPollQuota


def test_a_few_operations_are_looked_in_on_as_soon_as_wanted() -> None:
    budget = LongPollQuota()
    with budget.looking():
        assert budget.look_seconds(0.5) == 0.5


def test_looks_at_many_operations_keep_to_their_share_and_to_that_of_few_again_when_the_others_have_gone() -> None:
    budget = LongPollQuota()
    with ExitStack() as stack:
        for _ in range(2000):
            stack.enter_context(budget.looking())
        pauses = [budget.look_seconds(0.5) for _ in range(50)]
        assert 100 * 0.8 <= min(pauses) <= max(pauses) <= 100 * 1.2, "twenty a second"
    assert budget.look_seconds(0.5) == 0.5


@pytest.mark.parametrize(
    ("watchers", "interval", "check"), [(1, 1, 5), (100, 1, 5), (125, 1.25, 5), (250, 2.5, 10), (2000, 20, 80)]
)
def test_intervals_grow_with_the_operations_that_are_followed_without_a_long_poll(
    watchers: int, interval: float, check: float
) -> None:
    budget = LongPollQuota()
    with ExitStack() as stack:
        for _ in range(watchers):
            stack.enter_context(budget.describing())
        assert (budget.interval, budget.check_interval) == (interval, check)
    assert (budget.interval, budget.check_interval) == (1, 5)


async def test_reads_16_at_once_and_300_per_second() -> None:
    budget, at_once, most = LongPollQuota(), 0, 0

    async def read() -> None:
        nonlocal at_once, most
        async with budget.reading(is_first=False):
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.2)
            at_once -= 1

    began = time.monotonic()
    await asyncio.gather(*(read() for _ in range(100)))
    assert most == 16
    assert time.monotonic() - began >= 1.2, "seven times 16"

    began = time.monotonic()
    await asyncio.gather(*(_read(budget, is_first=False) for _ in range(300)))
    assert time.monotonic() - began >= 0.99


async def test_the_first_read_of_an_operation_does_not_wait_for_the_reads_of_others() -> None:
    budget = LongPollQuota()
    waiting = [asyncio.create_task(_read(budget, is_first=False)) for _ in range(3000)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(2):
        await asyncio.gather(*(_read(budget, is_first=True) for _ in range(500)))
    assert sum(task.done() for task in waiting) < 1500
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def _read(budget: LongPollQuota, *, is_first: bool) -> None:
    async with budget.reading(is_first=is_first):
        await asyncio.sleep(0)


async def test_reads_that_are_cancelled_use_no_turn() -> None:
    """As the reads of watchers that end while many wait, for instance after Redis was lost."""
    budget = LongPollQuota()

    cancelled = [asyncio.create_task(_read(budget, is_first=False)) for _ in range(20 * int(MAX_READS_PER_SECOND))]
    await asyncio.sleep(0.05)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
    await asyncio.wait_for(_read(budget, is_first=False), 5)
