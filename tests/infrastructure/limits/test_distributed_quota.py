"""DistributedQuota: one count for all processes, and local counts while Redis is unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from contracts.errors import RateLimited
from infrastructure.limits import distributed_quota
from infrastructure.limits.distributed_quota import DistributedQuota
from infrastructure.limits.quota import LocalQuota, Quota, QuotaKey
from infrastructure.redis_policy import TIMEOUT_SECONDS, RedisPolicy
from tests.mail_server import silent_server
from tests.redis_access import open_redis, redis_client
from tools.chaos.proxy import NORMAL, STALLED, Proxy

SECRET = b"s" * 32
UNUSED_ADDRESS = "redis://127.0.0.1:1/0"


class Process:
    """A process that acquires quota keys with the same kind and limit for different owners."""

    def __init__(self, quota: Quota, limit: int) -> None:
        self._quota = quota
        self._limit = limit

    def acquire(self, *owners: str) -> AbstractAsyncContextManager[None]:
        return self._quota.acquire(*(QuotaKey("user", owner, self._limit) for owner in owners))


@asynccontextmanager
async def running_process(redis: RedisPolicy, limit: int, *, lease_seconds: float = 60) -> AsyncIterator[Process]:
    quota = DistributedQuota(redis, SECRET, lease_seconds=lease_seconds)
    async with quota.running():
        yield Process(quota, limit)


@pytest.fixture
def owner() -> str:
    return uuid4().hex


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with redis_client(redis_url) as redis:
        yield redis


@pytest.fixture
async def policy(redis_url: str) -> AsyncIterator[RedisPolicy]:
    async with open_redis(redis_url) as policy:
        yield policy


async def acquire_many(process: Process, owner: str, times: int) -> list[AbstractAsyncContextManager[None]]:
    """Send this number of requests at the same time and return the granted ones."""
    requested = [process.acquire(owner) for _ in range(times)]
    outcomes = await asyncio.gather(*(each.__aenter__() for each in requested), return_exceptions=True)
    granted = [each for each, outcome in zip(requested, outcomes, strict=True) if outcome is None]
    assert len(granted) + sum(isinstance(outcome, RateLimited) for outcome in outcomes) == times
    return granted


async def acquire_eventually(process: Process, owner: str, times: int) -> None:
    """Repeat requests until this number is granted."""
    async with asyncio.timeout(10):
        taken = await acquire_many(process, owner, times)
        while len(taken) < times:
            await asyncio.sleep(0.02)
            taken += await acquire_many(process, owner, times - len(taken))


async def test_limit_applies_to_all_processes_together(policy: RedisPolicy, owner: str) -> None:
    async with running_process(policy, 10) as one, running_process(policy, 10) as other:
        here, there = await asyncio.gather(acquire_many(one, owner, 8), acquire_many(other, owner, 8))
        assert len(here) + len(there) == 10
        assert len(await acquire_many(one, uuid4().hex, 10)) == 10, "another owner has its own count"


async def test_released_slot_is_available_to_another_process(policy: RedisPolicy, owner: str) -> None:
    async with running_process(policy, 2) as one, running_process(policy, 2) as other:
        first, second = await acquire_many(one, owner, 2)
        assert await acquire_many(other, owner, 1) == []
        await first.__aexit__(None, None, None)
        await acquire_eventually(other, owner, 1)
        await second.__aexit__(None, None, None)


async def test_count_of_a_killed_process_is_released_when_its_lease_expires(policy: RedisPolicy, owner: str) -> None:
    quota = DistributedQuota(policy, SECRET, lease_seconds=0.5)
    counting = asyncio.create_task(quota._run())  # noqa: SLF001 - cancelled without a release, like a killed process
    held = await acquire_many(Process(quota, 2), owner, 2)
    counting.cancel()
    async with running_process(policy, 2) as other:
        assert await acquire_many(other, owner, 1) == []
        await acquire_eventually(other, owner, 2)
    assert len(held) == 2


async def test_count_that_redis_has_lost_is_restored(redis: Redis, policy: RedisPolicy, owner: str) -> None:
    async with running_process(policy, 2, lease_seconds=0.3) as one, running_process(policy, 2) as other:
        held = await acquire_many(one, owner, 2)
        await redis.flushdb()
        await asyncio.sleep(0.4)
        assert await acquire_many(other, owner, 2) == []
        assert len(held) == 2


async def test_cancellation_while_waiting_releases_the_slot(policy: RedisPolicy, owner: str) -> None:
    async with running_process(policy, 1) as one, running_process(policy, 1) as other:
        for turns in range(6):  # before, during and after the exchange with Redis
            held = one.acquire(owner)
            cancelled = asyncio.create_task(held.__aenter__())
            for _ in range(turns):
                await asyncio.sleep(0.0005 * turns)
            cancelled.cancel()
            (answer,) = await asyncio.gather(cancelled, return_exceptions=True)
            if answer is None:
                await held.__aexit__(None, None, None)
        await acquire_eventually(other, owner, 1)


async def test_without_redis_each_process_uses_its_own_count(owner: str) -> None:
    async with open_redis(UNUSED_ADDRESS) as nowhere, running_process(nowhere, 3) as process:
        async with asyncio.timeout(3):
            held = await acquire_many(process, owner, 3)
            assert await acquire_many(process, owner, 1) == []
        assert len(held) == 3


@pytest.mark.parametrize("is_shared", [False, True])
async def test_acquires_all_keys_or_none(policy: RedisPolicy, owner: str, is_shared: bool) -> None:
    distributed = DistributedQuota(policy, SECRET)
    quota: Quota = distributed if is_shared else LocalQuota()
    user, url = QuotaKey("user", owner, 2), QuotaKey("url", owner, 1)
    async with quota.running(), quota.acquire(user, url):
        for _ in range(5):
            with pytest.raises(RateLimited):
                await quota.acquire(user, url).__aenter__()
        async with quota.acquire(user):
            with pytest.raises(RateLimited):
                await quota.acquire(user).__aenter__()


async def test_exhausted_key_releases_the_other_keys_of_the_request(policy: RedisPolicy, owner: str) -> None:
    async with AsyncExitStack() as stack:
        one, other = DistributedQuota(policy, SECRET), DistributedQuota(policy, SECRET)
        for quota in (one, other):
            await stack.enter_async_context(quota.running())
        user, url = QuotaKey("user", owner, 1), QuotaKey("url", owner, 1)
        await stack.enter_async_context(one.acquire(url))
        with pytest.raises(RateLimited):
            await other.acquire(user, url).__aenter__()
        async with asyncio.timeout(10):
            while True:
                try:
                    await stack.enter_async_context(one.acquire(user))
                except RateLimited:  # the release is on its way
                    await asyncio.sleep(0.02)
                else:
                    return


@pytest.mark.parametrize("garbage", [b"garbage", b"\xff\xfe", b"3 never", b""])
async def test_malformed_lease_is_removed(redis: Redis, policy: RedisPolicy, owner: str, garbage: bytes) -> None:
    async with running_process(policy, 2) as one, one.acquire(owner):
        (key,) = [key async for key in redis.scan_iter("limits:quota:user:*") if await redis.hlen(key)][-1:]
        await redis.hset(key, "another process", garbage)
        async with running_process(policy, 2) as other:
            assert len(await acquire_many(other, owner, 3)) == 1
        assert b"another process" not in await redis.hgetall(key)


async def test_redis_key_of_another_type_falls_back_to_local_counts(
    redis: Redis, policy: RedisPolicy, owner: str
) -> None:
    async with running_process(policy, 2) as one:
        async with one.acquire(owner):
            (key,) = [key async for key in redis.scan_iter("limits:quota:user:*") if await redis.hlen(key)][-1:]
            await redis.set(key, "no hash")
        async with asyncio.timeout(5):
            assert len(await acquire_many(one, owner, 3)) == 2
        await redis.delete(key)


async def test_unexpected_error_is_logged_and_later_requests_are_decided(
    policy: RedisPolicy, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_process(policy, 2) as one:
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr("infrastructure.limits.distributed_quota.DistributedQuota._exchange", _raise)
            async with asyncio.timeout(5):
                assert len(await acquire_many(one, owner, 3)) == 2
        assert [log["log_level"] for log in logs] == ["error"]
        async with asyncio.timeout(5):
            assert await acquire_many(one, owner, 1) == []


async def test_restarts_the_task_that_renews_leases(
    policy: RedisPolicy, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_process(policy, 1) as one:
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr("infrastructure.limits.distributed_quota.DistributedQuota._decide", _raise)
            requests = asyncio.create_task(acquire_many(one, owner, 1))
            await asyncio.sleep(0.3)
            requests.cancel()
            await asyncio.wait((requests,))
        assert "background_task_failed" in [log["event"] for log in logs]
        async with asyncio.timeout(10):
            async with one.acquire(f"{owner} later"):
                pass


async def _raise(*_: object) -> None:
    raise ArithmeticError("unexpected")


async def keys_of(redis: Redis) -> list[bytes]:
    return [key async for key in redis.scan_iter("limits:quota:user:*")]


async def test_lease_lasts_a_minute_and_its_key_expires_soon_after(
    redis: Redis, policy: RedisPolicy, owner: str
) -> None:
    await redis.flushdb()
    quota = DistributedQuota(policy, SECRET)
    async with quota.running(), quota.acquire(QuotaKey("user", owner, 1)):
        (key,) = await keys_of(redis)
        assert 60_000 < await redis.pttl(key) <= 61_000
        (lease,) = await redis.hvals(key)
        count, expiry = map(int, lease.split())
        assert (count, expiry - (await redis.time())[0]) in ((1, 60), (1, 59))


async def test_count_is_kept_longer_than_one_lease(policy: RedisPolicy, owner: str) -> None:
    async with running_process(policy, 2, lease_seconds=1) as one, running_process(policy, 2) as other:
        held = await acquire_many(one, owner, 2)
        for _ in range(8):
            await asyncio.sleep(0.5)
            assert await acquire_many(other, owner, 1) == []
        assert len(held) == 2


async def test_stopped_process_releases_its_counts_at_once(policy: RedisPolicy, owner: str) -> None:
    async with running_process(policy, 1) as one, one.acquire(owner):
        pass  # the process stops before it has reported the release
    async with running_process(policy, 1) as other:
        assert len(await acquire_many(other, owner, 1)) == 1


async def test_stopping_process_decides_all_waiting_requests(policy: RedisPolicy, owner: str) -> None:
    quota = DistributedQuota(policy, SECRET)
    async with quota.running():
        requests = [asyncio.create_task(acquire_many(Process(quota, 3), owner, 1)) for _ in range(3)]
        await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await asyncio.wait(requests)
    assert all(task.done() for task in requests)


async def test_unresponsive_redis_delays_a_request_by_one_second_at_most(owner: str) -> None:
    async with (
        silent_server() as port,
        open_redis(f"redis://127.0.0.1:{port}/0", timeout_seconds=TIMEOUT_SECONDS) as silent,
        running_process(silent, 3) as process,
    ):
        async with asyncio.timeout(1.5):
            held = await acquire_many(process, owner, 3)
        async with asyncio.timeout(0.3):
            (again,) = await acquire_many(process, f"{owner} again", 1)  # Redis is not asked again for a while
            assert await acquire_many(process, owner, 1) == []
        assert len([*held, again]) == 4


async def test_counts_of_an_outage_are_shared_soon_after_redis_returns(
    policy: RedisPolicy, redis_url: str, owner: str
) -> None:
    address = urlsplit(redis_url)
    assert address.port is not None
    async with Proxy(address.port) as proxy:
        await proxy.set_conditions(STALLED)
        async with (
            open_redis(f"redis://127.0.0.1:{proxy.port}/0", timeout_seconds=0.5) as far,
            running_process(far, 2, lease_seconds=3) as one,
        ):
            async with asyncio.timeout(5):
                held = await acquire_many(one, owner, 1)
            await proxy.set_conditions(NORMAL)
            async with running_process(policy, 2) as other, asyncio.timeout(12):
                while True:
                    taken = await acquire_many(other, owner, 2)
                    if len(taken) == 1:
                        break
                    for each in taken:
                        await each.__aexit__(None, None, None)
                    await asyncio.sleep(0.2)
            assert len(held) == 1


async def test_keeps_no_data_of_released_keys(policy: RedisPolicy, owner: str) -> None:
    for quota in (DistributedQuota(policy, SECRET), LocalQuota()):
        async with quota.running():
            for number in range(20):
                async with quota.acquire(QuotaKey("user", f"{owner}{number}", 1)):
                    pass
            await asyncio.sleep(0.2)
            assert not quota._held  # noqa: SLF001 - no public method shows a leak


def test_local_quota_enforces_the_limit_and_reuses_released_slots() -> None:
    quota, key = LocalQuota(), QuotaKey("user", "ada", 2)
    for _ in range(3):
        with quota.hold([key]), quota.hold([key]):
            with pytest.raises(RateLimited):
                quota.hold([key]).__enter__()
            with pytest.raises(RateLimited):
                quota.hold([QuotaKey("user", "grace", 1)] * 2).__enter__()


async def test_failing_block_releases_its_count(policy: RedisPolicy, owner: str) -> None:
    async with running_process(policy, 1) as one:
        with pytest.raises(ArithmeticError):
            async with one.acquire(owner):
                raise ArithmeticError
        await acquire_eventually(one, owner, 1)


async def test_lease_of_a_killed_process_expires_while_others_renew_theirs(policy: RedisPolicy, owner: str) -> None:
    quota = DistributedQuota(policy, SECRET, lease_seconds=0.5)
    counting = asyncio.create_task(quota._run())  # noqa: SLF001 - cancelled without a release, like a killed process
    held = await acquire_many(Process(quota, 3), owner, 2)
    counting.cancel()
    async with running_process(policy, 3, lease_seconds=0.5) as other:
        own = await acquire_many(other, owner, 3)
        assert len(own) == 1
        await acquire_eventually(other, owner, 2)
        assert len([*held, *own]) == 3


async def test_cancellation_at_the_moment_of_the_grant_releases_the_slot(
    policy: RedisPolicy, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_process(policy, 1) as one:
        cancelled = asyncio.create_task(acquire_many(one, owner, 1))
        grant = distributed_quota._grant  # noqa: SLF001

        def grant_and_cancel(requests: Sequence[distributed_quota._Request], allowed: int) -> int:
            taken = grant(requests, allowed)
            if taken:
                cancelled.cancel()
            return taken

        with monkeypatch.context() as patch:
            patch.setattr(distributed_quota, "_grant", grant_and_cancel)
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        await acquire_eventually(one, owner, 1)


async def test_cancellation_during_the_exchange_with_redis_releases_the_slot(
    policy: RedisPolicy, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_process(policy, 1) as one, running_process(policy, 1) as other:
        cancelled = asyncio.create_task(acquire_many(one, owner, 1))
        exchange = DistributedQuota._exchange  # noqa: SLF001

        async def exchange_and_cancel(*arguments: Any) -> Sequence[int | None]:
            answers = await exchange(*arguments)
            cancelled.cancel()
            await asyncio.wait((cancelled,))
            return answers

        with monkeypatch.context() as patch:
            patch.setattr(DistributedQuota, "_exchange", exchange_and_cancel)
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        async with one.acquire(f"{owner} later"):  # the next request writes the count to Redis
            await acquire_eventually(other, owner, 1)
