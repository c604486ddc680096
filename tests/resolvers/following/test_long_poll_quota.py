"""The quota for all calls to Temporal that follow operations in one process."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest

from resolvers.following.long_poll_quota import MAX_READS_PER_SECOND, LongPollQuota


def test_heartbeat_poll_interval_is_as_requested_for_few_operations() -> None:
    long_poll_quota = LongPollQuota()
    with long_poll_quota.polling_heartbeats():
        assert long_poll_quota.heartbeat_poll_interval(0.5) == 0.5


def test_heartbeat_poll_interval_grows_with_the_number_of_operations() -> None:
    long_poll_quota = LongPollQuota()
    with ExitStack() as stack:
        for _ in range(2000):
            stack.enter_context(long_poll_quota.polling_heartbeats())
        pauses = [long_poll_quota.heartbeat_poll_interval(0.5) for _ in range(50)]
        assert 100 * 0.8 <= min(pauses) <= max(pauses) <= 100 * 1.2, "2,000 operations at twenty polls per second"
    assert long_poll_quota.heartbeat_poll_interval(0.5) == 0.5


@pytest.mark.parametrize(
    ("watchers", "interval", "check_interval"), [(1, 1, 5), (100, 1, 5), (125, 1.25, 5), (250, 2.5, 10), (2000, 20, 80)]
)
def test_intervals_grow_with_the_number_of_watchers_without_a_long_poll(
    watchers: int, interval: float, check_interval: float
) -> None:
    long_poll_quota = LongPollQuota()
    with ExitStack() as stack:
        for _ in range(watchers):
            stack.enter_context(long_poll_quota.without_long_poll())
        assert (long_poll_quota.interval, long_poll_quota.check_interval) == (interval, check_interval)
    assert (long_poll_quota.interval, long_poll_quota.check_interval) == (1, 5)


async def test_limits_reads_to_16_concurrent_and_300_per_second() -> None:
    long_poll_quota, concurrent, max_concurrent = LongPollQuota(), 0, 0

    async def read() -> None:
        nonlocal concurrent, max_concurrent
        async with long_poll_quota.read_slot(is_first=False):
            concurrent += 1
            max_concurrent = max(max_concurrent, concurrent)
            await asyncio.sleep(0.2)
            concurrent -= 1

    started_at = time.monotonic()
    await asyncio.gather(*(read() for _ in range(100)))
    assert max_concurrent == 16
    assert time.monotonic() - started_at >= 1.2, "100 reads in seven groups of 16"

    started_at = time.monotonic()
    await asyncio.gather(*(_read(long_poll_quota, is_first=False) for _ in range(300)))
    assert time.monotonic() - started_at >= 0.99


async def test_first_read_of_an_operation_is_not_rate_limited() -> None:
    long_poll_quota = LongPollQuota()
    waiting = [asyncio.create_task(_read(long_poll_quota, is_first=False)) for _ in range(3000)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(2):
        await asyncio.gather(*(_read(long_poll_quota, is_first=True) for _ in range(500)))
    assert sum(task.done() for task in waiting) < 1500
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def _read(long_poll_quota: LongPollQuota, *, is_first: bool) -> None:
    async with long_poll_quota.read_slot(is_first=is_first):
        await asyncio.sleep(0)


async def test_cancelled_reads_do_not_delay_later_reads() -> None:
    """Watchers may end while many of them wait, for example after a loss of Redis."""
    long_poll_quota = LongPollQuota()

    cancelled = [
        asyncio.create_task(_read(long_poll_quota, is_first=False)) for _ in range(20 * int(MAX_READS_PER_SECOND))
    ]
    await asyncio.sleep(0.05)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
    await asyncio.wait_for(_read(long_poll_quota, is_first=False), 5)
