"""Quota for describe calls: its limits, the release of slots, and the timeout."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from contracts.errors import DeadlineExceeded, OperationNotFound
from infrastructure.limits.fair_semaphore import Requester
from resolvers.operations.describe_quota import DescribeQuota

ADA = Requester("ada", "request")


async def concurrent_slots(quota: DescribeQuota, requesters: list[Requester]) -> int:
    """Return how many of the requesters hold a slot while the others wait."""
    held, may_end = 0, asyncio.Event()

    async def hold(requester: Requester) -> None:
        nonlocal held
        async with quota.slot(requester):
            held += 1
            await may_end.wait()

    tasks = [asyncio.create_task(hold(requester)) for requester in requesters]
    await asyncio.sleep(0.2)
    found = held
    may_end.set()
    await asyncio.gather(*tasks)
    return found


async def test_limits_describe_calls_in_total_per_client_and_per_request() -> None:
    quota = DescribeQuota()
    for _ in range(2):
        assert await concurrent_slots(quota, [Requester(f"client-{n}", f"request-{n}") for n in range(150)]) == 128
        assert await concurrent_slots(quota, [Requester("client", f"request-{n}") for n in range(20)]) == 16
        assert await concurrent_slots(quota, [ADA] * 12) == 8


async def test_releases_the_slot_of_a_failed_or_cancelled_call() -> None:
    quota = DescribeQuota()
    async with asyncio.timeout(10):
        for _ in range(10):
            with pytest.raises(OperationNotFound):
                async with quota.slot(ADA):
                    raise OperationNotFound()
            task = asyncio.create_task(_hold(quota))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait((task,))
    assert await concurrent_slots(quota, [ADA] * 12) == 8


async def test_raises_deadline_exceeded_after_waiting_four_seconds() -> None:
    quota = DescribeQuota()
    async with AsyncExitStack() as stack:
        for _ in range(8):
            await stack.enter_async_context(quota.slot(ADA))
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded) as raised:
            await stack.enter_async_context(quota.slot(ADA))
        assert 3.9 < time.monotonic() - began < 8
        assert raised.value.service == "temporal"
    assert await concurrent_slots(quota, [ADA] * 12) == 8


async def _hold(quota: DescribeQuota) -> None:
    async with quota.slot(ADA):
        await asyncio.sleep(60)
