"""The edge's copies of sessions: replaced at a revocation, and no reason to fail when the cache is away."""

import asyncio
from collections.abc import Mapping

from structlog.testing import capture_logs

from activities.auth.revocations import CacheRevocationPublisher
from contracts.auth import REVOKED, hot_session_key
from infrastructure.caching.cache import MemoryCache
from infrastructure.change_notifications import LocalNotifier
from infrastructure.tasks import BackgroundTasks
from tests.redis_access import open_cache, open_wakeups, redis_client, value_of
from worker.dev.ports import free_port


async def test_a_revocation_takes_the_place_of_the_copy_until_it_is_withdrawn() -> None:
    cache = MemoryCache()
    revocations = CacheRevocationPublisher(cache, LocalNotifier())
    await cache.set_many({hot_session_key("hash"): "the copy"}, ttl_seconds=60)

    await revocations.post("hash")
    assert await value_of(cache, hot_session_key("hash")) == REVOKED
    assert not await _add(cache, "a copy that was read before the revocation")

    await revocations.withdraw("hash")
    assert await value_of(cache, hot_session_key("hash")) is None


async def _add(cache: MemoryCache, copy: str) -> bool:
    """As the edge keeps a copy: only where there is nothing."""
    return await cache.add(hot_session_key("hash"), copy, ttl_seconds=60)


async def test_a_cache_that_is_away_is_logged_and_fails_nothing() -> None:
    url = f"redis://127.0.0.1:{free_port('127.0.0.1')}/0"
    async with open_cache(url) as cache, open_wakeups(url) as wakeups:
        revocations = CacheRevocationPublisher(cache, wakeups)
        with capture_logs() as logs:
            await revocations.post("hash")
            await revocations.withdraw("hash")

    expected = ["redis_unavailable", "revocation_not_posted", "redis_unavailable", "revocation_not_withdrawn"]
    assert [entry["event"] for entry in logs] == expected


async def test_a_revocation_wakes_who_stays_with_the_session_once_it_is_posted() -> None:
    cache, wakeups = MemoryCache(), LocalNotifier()
    with wakeups.hearing(hot_session_key("hash")) as news:
        await CacheRevocationPublisher(cache, wakeups).post("hash")
        assert news.is_set()
        assert await value_of(cache, hot_session_key("hash")) == REVOKED


class Flaky(MemoryCache):
    """A cache that can be down."""

    is_down = False

    async def set_many(self, values: Mapping[str, str], *, ttl_seconds: float, always: bool = False) -> bool:
        return not self.is_down and await super().set_many(values, ttl_seconds=ttl_seconds, always=always)


async def test_a_revocation_that_did_not_get_through_is_posted_once_the_cache_is_back() -> None:
    cache, wakeups = Flaky(), LocalNotifier()
    revocations = CacheRevocationPublisher(cache, wakeups)
    await cache.set_many({hot_session_key("hash"): "the copy"}, ttl_seconds=60)
    cache.is_down = True
    await revocations.post("hash")
    await revocations.post_owed()
    assert await value_of(cache, hot_session_key("hash")) == "the copy"

    cache.is_down = False
    with wakeups.hearing(hot_session_key("hash")) as news:
        await revocations.post_owed()
        assert news.is_set()

    assert await value_of(cache, hot_session_key("hash")) == REVOKED


async def test_what_was_withdrawn_meanwhile_or_is_long_past_is_not_posted_again() -> None:
    cache, now = Flaky(), [0.0]
    revocations = CacheRevocationPublisher(cache, LocalNotifier(), clock=lambda: now[0])
    cache.is_down = True
    await revocations.post("withdrawn")
    await revocations.post("past")
    await revocations.withdraw("withdrawn")
    now[0] += 30

    cache.is_down = False
    await revocations.post_owed()

    assert await value_of(cache, hot_session_key("withdrawn")) is None
    assert await value_of(cache, hot_session_key("past")) is None


async def test_a_revocation_stays_posted_for_30_seconds(redis_url: str) -> None:
    async with open_cache(redis_url) as cache, redis_client(redis_url) as redis:
        await CacheRevocationPublisher(cache, LocalNotifier()).post("for 30 s")
        assert 29_000 < await redis.pttl(hot_session_key("for 30 s")) <= 30_000


async def test_what_is_owed_is_posted_for_30_seconds_and_once() -> None:
    cache, now = Flaky(), [0.0]
    revocations = CacheRevocationPublisher(cache, LocalNotifier(), clock=lambda: now[0])
    cache.is_down = True
    await revocations.post("owed")
    cache.is_down = False
    now[0] = 29.9
    await revocations.post_owed()
    assert await value_of(cache, hot_session_key("owed")) == REVOKED

    await cache.set_many({hot_session_key("owed"): "the copy of a session that was restored"}, ttl_seconds=60)
    await revocations.post_owed()
    assert await value_of(cache, hot_session_key("owed")) == "the copy of a session that was restored"


async def test_what_is_owed_is_posted_within_seconds_of_the_caches_return() -> None:
    cache = Flaky()
    revocations = CacheRevocationPublisher(cache, LocalNotifier())
    cache.is_down = True
    await revocations.post("owed")
    async with BackgroundTasks() as tasks, asyncio.timeout(3):
        tasks.start(revocations.post_regularly(), name="post")
        await asyncio.sleep(0.7)
        cache.is_down = False
        while await value_of(cache, hot_session_key("owed")) != REVOKED:  # noqa: ASYNC110 - it sends no event
            await asyncio.sleep(0.02)
