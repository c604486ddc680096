"""Slots for descriptions of operations: each is returned, and a wait for one is bounded."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from contracts.errors import DeadlineExceeded, OperationNotFound
from infrastructure.limits.fair_semaphore import Requester
from resolvers.operations.describe_quota import DescribeQuota

ADA = Requester("ada", "request")


async def held_at_once(limit: DescribeQuota, requesters: list[Requester]) -> int:
    """How many of them have a slot while the others wait for one."""
    held, may_end = 0, asyncio.Event()

    async def hold(requester: Requester) -> None:
        nonlocal held
        async with limit.slot(requester):
            held += 1
            await may_end.wait()

    tasks = [asyncio.create_task(hold(requester)) for requester in requesters]
    await asyncio.sleep(0.2)
    found = held
    may_end.set()
    await asyncio.gather(*tasks)
    return found


async def test_128_are_described_at_once_16_for_one_client_and_8_for_one_request() -> None:
    limit = DescribeQuota()
    for _ in range(2):
        assert await held_at_once(limit, [Requester(f"client-{n}", f"request-{n}") for n in range(150)]) == 128
        assert await held_at_once(limit, [Requester("client", f"request-{n}") for n in range(20)]) == 16
        assert await held_at_once(limit, [ADA] * 12) == 8


async def test_a_slot_is_returned_also_by_a_description_that_fails_or_is_cancelled() -> None:
    limit = DescribeQuota()
    async with asyncio.timeout(10):
        for _ in range(10):
            with pytest.raises(OperationNotFound):
                async with limit.slot(ADA):
                    raise OperationNotFound()
            task = asyncio.create_task(_hold(limit))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait((task,))
    assert await held_at_once(limit, [ADA] * 12) == 8


async def test_a_request_that_waits_for_four_seconds_fails_and_leaves_the_slots_to_others() -> None:
    limit = DescribeQuota()
    async with AsyncExitStack() as stack:
        for _ in range(8):
            await stack.enter_async_context(limit.slot(ADA))
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded) as raised:
            await stack.enter_async_context(limit.slot(ADA))
        assert 3.9 < time.monotonic() - began < 8
        assert raised.value.service == "temporal"
    assert await held_at_once(limit, [ADA] * 12) == 8


async def _hold(limit: DescribeQuota) -> None:
    async with limit.slot(ADA):
        await asyncio.sleep(60)
