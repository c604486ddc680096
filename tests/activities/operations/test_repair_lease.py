"""The lease of the repair: one process at a time has it, and loses it only by being silent."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from activities.operations.repair_lease import LeaseLost, RepairLease
from tests.activities.conftest import Clock

_DURATION = timedelta(seconds=20)


async def test_one_of_many_processes_acquires_the_lease(any_database: None, clock: Clock) -> None:
    leases = [RepairLease(_DURATION, clock) for _ in range(20)]
    assert sum(await asyncio.gather(*(lease.acquire() for lease in leases))) == 1


async def test_holder_that_does_not_extend_loses_the_lease(any_database: None, clock: Clock) -> None:
    silent, other = RepairLease(_DURATION, clock), RepairLease(_DURATION, clock)
    assert await silent.acquire()
    clock.advance(_DURATION)
    assert not await other.acquire()
    clock.advance(timedelta(milliseconds=1))
    assert await other.acquire()
    with pytest.raises(LeaseLost):
        await silent.extend()
    await silent.release()
    assert not await RepairLease(_DURATION, clock).acquire(), "the other one still holds it"


async def test_extended_lease_is_held_for_the_whole_round(any_database: None, clock: Clock) -> None:
    busy, other = RepairLease(_DURATION, clock), RepairLease(_DURATION, clock)
    assert await busy.acquire()
    for _ in range(10):
        clock.advance(timedelta(seconds=12))
        await busy.extend()
        assert not await other.acquire()
    await busy.release()
    assert await other.acquire()


async def test_released_lease_can_be_free_from_a_later_time_on(any_database: None, clock: Clock) -> None:
    first, next_one = RepairLease(_DURATION, clock), RepairLease(_DURATION, clock)
    assert await first.acquire()
    await first.release(free_at=clock.now + timedelta(seconds=5))
    clock.advance(timedelta(seconds=5))
    assert not await next_one.acquire()
    clock.advance(timedelta(milliseconds=1))
    assert await next_one.acquire()


async def test_watermark_outlives_leases(any_database: None, clock: Clock) -> None:
    lease = RepairLease(_DURATION, clock)
    assert await lease.watermark() is None
    began = clock.now
    await lease.set_watermark(began)
    assert await lease.acquire()
    await lease.release()
    assert await RepairLease(_DURATION, clock).watermark() == began
