"""Token buckets and SharedRateLimiter: limits, eviction, Redis outages, and constant work per request."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from contracts.errors import ServiceUnavailable
from infrastructure.limits.rate_limit import MemoryTokenBuckets, RateLimitKey, RedisTokenBuckets, TokenBucket
from infrastructure.limits.shared_rate_limit import SharedRateLimiter
from tests.mail_server import silent_server
from tests.redis_access import open_redis, redis_client
from tools.chaos.proxy import NORMAL, STALLED, Proxy


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_bucket_holds_its_capacity_and_refills_continuously() -> None:
    bucket = TokenBucket(10, 60)

    assert [bucket.consume(0) for _ in range(11)] == [True] * 10 + [False]
    assert bucket.wait(0) == pytest.approx(6)
    assert [bucket.consume(12) for _ in range(3)] == [True, True, False]
    assert [bucket.consume(10_000) for _ in range(11)] == [True] * 10 + [False]


def test_refund_never_exceeds_the_capacity() -> None:
    bucket = TokenBucket(2, 60)
    bucket.refund(5)

    assert [bucket.consume(0) for _ in range(3)] == [True, True, False]


async def test_memory_keeps_the_most_recently_used_buckets() -> None:
    store = MemoryTokenBuckets(Clock(), max_keys=3)
    keys = [RateLimitKey(name, 1, 60) for name in "abcd"]
    for key in keys[:3]:
        assert await store.consume([key]) == 0
    assert await store.consume([keys[0]]) > 0, "a refusal is a use, too"
    assert await store.consume([keys[3]]) == 0

    assert len(store) == 3
    assert await store.consume([keys[0]]) > 0
    assert await store.consume([keys[1]]) == 0, "the oldest was evicted"


@pytest.mark.parametrize("existing", [100, 100_000])
def test_work_per_key_does_not_depend_on_the_number_of_keys(existing: int) -> None:
    limiter = SharedRateLimiter(Clock(), max_keys=existing)
    for number in range(existing):
        limiter.consume(f"address:{number}", 300)

    before = limiter.visits
    for number in range(existing, existing + 1_000):
        assert limiter.consume(f"address:{number}", 300) == 0

    assert len(limiter) == existing
    assert (limiter.visits - before) / 1_000 <= 3


def test_key_in_use_is_not_evicted_and_stays_refused() -> None:
    limiter = SharedRateLimiter(Clock(), max_keys=100)
    assert [limiter.consume("attacker", 5) > 0 for _ in range(6)] == [False] * 5 + [True]

    for number in range(1_000):
        limiter.consume(f"address:{number}", 5)
        assert limiter.consume("attacker", 5) > 0


def test_keys_that_are_idle_for_a_minute_are_evicted() -> None:
    clock = Clock()
    limiter = SharedRateLimiter(clock)
    for number in range(1_000):
        limiter.consume(f"old:{number}", 300)
    clock.now += 61
    for number in range(1_000):
        limiter.consume(f"new:{number}", 300)

    assert len(limiter) == 1_000


async def test_bucket_in_redis_expires_when_it_is_full_again(redis_url: str) -> None:
    async with open_redis(redis_url) as policy, redis_client(redis_url) as redis:
        store, key = RedisTokenBuckets(policy), RateLimitKey(uuid4().hex, 10, 600)
        for _ in range(10):
            assert await store.consume([key]) == 0
        assert 59 < await store.consume([key]) <= 60
        (name,) = [name async for name in redis.scan_iter(f"*{key.name}")]
        assert 599_000 < await redis.pttl(name) <= 600_000


async def test_refund_does_not_exceed_the_capacity_in_redis(redis_url: str) -> None:
    async with open_redis(redis_url) as policy:
        store, key = RedisTokenBuckets(policy), RateLimitKey(uuid4().hex, 2, 600)
        await store.refund([key] * 5)
        assert [await store.consume([key]) > 0 for _ in range(3)] == [False, False, True]


async def test_consumes_from_all_buckets_in_redis_or_from_none(redis_url: str) -> None:
    async with open_redis(redis_url) as policy:
        store = RedisTokenBuckets(policy)
        full, small = RateLimitKey(uuid4().hex, 3, 600), RateLimitKey(uuid4().hex, 1, 600)
        assert await store.consume([full, small]) == 0
        for _ in range(5):
            assert await store.consume([full, small]) > 0
        assert [await store.consume([full]) > 0 for _ in range(3)] == [False, False, True]


async def test_consumes_from_all_buckets_in_memory_or_from_none() -> None:
    store = MemoryTokenBuckets(Clock())
    full, small = RateLimitKey("full", 3, 600), RateLimitKey("small", 1, 600)
    assert await store.consume([full, small]) == 0
    for _ in range(5):
        assert await store.consume([full, small]) > 0
    assert [await store.consume([full]) > 0 for _ in range(3)] == [False, False, True]


async def test_unresponsive_redis_leads_to_a_refusal_after_the_timeout() -> None:
    async with silent_server() as port, open_redis(f"redis://127.0.0.1:{port}/0", timeout_seconds=0.5) as silent:
        began = time.monotonic()
        with pytest.raises(ServiceUnavailable):
            await RedisTokenBuckets(silent).consume([RateLimitKey("key", 1, 60)])
        assert 0.4 < time.monotonic() - began < 3


async def test_lowered_capacity_reduces_the_tokens_of_a_bucket_in_redis(redis_url: str) -> None:
    async with open_redis(redis_url) as policy:
        store, name = RedisTokenBuckets(policy), uuid4().hex
        assert await store.consume([RateLimitKey(name, 10, 600)]) == 0
        lowered = RateLimitKey(name, 2, 600)
        assert [await store.consume([lowered]) > 0 for _ in range(3)] == [False, False, True]


async def test_setting_back_the_clock_of_redis_removes_no_tokens(redis_url: str) -> None:
    async with open_redis(redis_url) as policy, redis_client(redis_url) as redis:
        store, key = RedisTokenBuckets(policy), RateLimitKey(uuid4().hex, 3, 60)
        assert await store.consume([key]) == 0
        (name,) = [name async for name in redis.scan_iter(f"*{key.name}")]
        await redis.hset(name, "at", str((await redis.time())[0] + 1000))
        assert [await store.consume([key]) > 0 for _ in range(3)] == [False, False, True]


async def test_debt_of_a_charge_is_at_most_one_capacity(redis_url: str) -> None:
    async with open_redis(redis_url) as policy:
        store, key = RedisTokenBuckets(policy), RateLimitKey(uuid4().hex, 60, 60)
        waits = [(await store.charge([(key, cost)]) or [])[0] for cost in (59, 1, 30, 10, 1_000, 1)]
        assert waits == [0, *(pytest.approx(seconds, abs=0.5) for seconds in (1, 31, 41, 61, 61))]


async def test_requests_admitted_during_a_report_are_in_a_later_report(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter, name = SharedRateLimiter(), uuid4().hex
    charge, reported = RedisTokenBuckets.charge, list[int]()

    async def charge_later(buckets: Any, charges: Any) -> Any:
        if not reported:
            for _ in range(10):
                assert limiter.consume(name, 50) == 0
        reported.extend(cost for _, cost in charges)
        return await charge(buckets, charges)

    monkeypatch.setattr(RedisTokenBuckets, "charge", charge_later)
    async with open_redis(redis_url) as policy, limiter.shared(policy), asyncio.timeout(5):
        for _ in range(10):
            assert limiter.consume(name, 50) == 0
        while not reported:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        assert limiter.consume(name, 50) == 0  # the next request causes the report of the rest
        while sum(reported) < 20:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.02)
    assert sum(reported) == 21


async def test_requests_admitted_during_an_outage_are_reported_soon_after_it(redis_url: str) -> None:
    limiter, name, port = SharedRateLimiter(), uuid4().hex, urlsplit(redis_url).port
    assert port is not None
    async with Proxy(port) as proxy, redis_client(redis_url) as redis:
        await proxy.set_conditions(STALLED)
        url = f"redis://127.0.0.1:{proxy.port}/0"
        with capture_logs() as logs:
            async with (
                open_redis(url, timeout_seconds=0.5) as policy,
                limiter.shared(policy),
                asyncio.timeout(20),
            ):
                for _ in range(10):
                    assert limiter.consume(name, 50) == 0
                while not logs:  # noqa: ASYNC110 - a log wakes no waiter
                    await asyncio.sleep(0.05)
                await proxy.set_conditions(NORMAL)
                while not [key async for key in redis.scan_iter(f"*{name}*")]:  # noqa: ASYNC110 - likewise
                    await asyncio.sleep(0.1)
    assert [log["event"] for log in logs] == ["redis_unavailable", "redis_available"]


async def test_two_processes_together_admit_little_more_than_the_limit(redis_url: str) -> None:
    here, there, name = SharedRateLimiter(), SharedRateLimiter(), uuid4().hex
    async with open_redis(redis_url) as policy, here.shared(policy), there.shared(policy):
        admitted = 0
        for _ in range(100):
            admitted += sum(limiter.consume(name, 100) == 0 for limiter in (here, there))
            await asyncio.sleep(0.005)
        assert 100 <= admitted <= 115
