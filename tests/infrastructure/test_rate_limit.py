"""Token buckets: what they admit, and that their work does not grow with their number."""

from __future__ import annotations

import pytest

from infrastructure.rate_limit import MemoryTokenBuckets, RateLimitKey, TokenBucket
from infrastructure.shared_rate_limit import SharedRateLimiter


class Clock:
    """Time that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_its_capacity_and_refills_continuously() -> None:
    bucket = TokenBucket(10, 60)

    assert [bucket.consume(0) for _ in range(11)] == [True] * 10 + [False]
    assert bucket.wait(0) == pytest.approx(6)
    assert [bucket.consume(12) for _ in range(3)] == [True, True, False]
    assert [bucket.consume(10_000) for _ in range(11)] == [True] * 10 + [False]


def test_a_refund_never_exceeds_the_capacity() -> None:
    bucket = TokenBucket(2, 60)
    bucket.refund(5)

    assert [bucket.consume(0) for _ in range(3)] == [True, True, False]


async def test_memory_keeps_the_buckets_that_were_used_last() -> None:
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
def test_a_new_key_costs_the_same_work_however_many_keys_there_are(existing: int) -> None:
    limiter = SharedRateLimiter(Clock(), max_keys=existing)
    for number in range(existing):
        limiter.consume(f"address:{number}", 300)

    before = limiter.visits
    for number in range(existing, existing + 1_000):
        assert limiter.consume(f"address:{number}", 300) == 0

    assert len(limiter) == existing
    assert (limiter.visits - before) / 1_000 <= 3


def test_a_key_in_use_is_not_evicted_and_stays_refused() -> None:
    limiter = SharedRateLimiter(Clock(), max_keys=100)
    assert [limiter.consume("attacker", 5) > 0 for _ in range(6)] == [False] * 5 + [True]

    for number in range(1_000):
        limiter.consume(f"address:{number}", 5)
        assert limiter.consume("attacker", 5) > 0


def test_keys_that_are_idle_for_a_minute_are_forgotten() -> None:
    clock = Clock()
    limiter = SharedRateLimiter(clock)
    for number in range(1_000):
        limiter.consume(f"old:{number}", 300)
    clock.now += 61
    for number in range(1_000):
        limiter.consume(f"new:{number}", 300)

    assert len(limiter) == 1_000
