"""The edge's copies of sessions: replaced at a revocation, and no reason to fail when the cache is away."""

import asyncio
from collections.abc import Mapping

from structlog.testing import capture_logs

from activities.auth.revocations import CacheRevocationPublisher
from contracts.auth import REVOKED, session_cache_key
from infrastructure.caching.cache import MemoryCache
from infrastructure.change_notifications import LocalNotifier
from infrastructure.tasks import BackgroundTasks
from tests.redis_access import get_value, open_cache, open_change_notifier, redis_client
from worker.dev.ports import free_port


async def test_revocation_replaces_the_cached_session_until_retracted() -> None:
    cache = MemoryCache()
    revocations = CacheRevocationPublisher(cache, LocalNotifier())
    await cache.set_many({session_cache_key("hash"): "the copy"}, ttl_seconds=60)

    await revocations.publish("hash")
    assert await get_value(cache, session_cache_key("hash")) == REVOKED
    assert not await _add(cache, "a copy that was read before the revocation")

    await revocations.retract("hash")
    assert await get_value(cache, session_cache_key("hash")) is None


async def _add(cache: MemoryCache, copy: str) -> bool:
    """As the edge keeps a copy: only where there is nothing."""
    return await cache.add(session_cache_key("hash"), copy, ttl_seconds=60)


async def test_unavailable_cache_is_logged_and_raises_nothing() -> None:
    url = f"redis://127.0.0.1:{free_port('127.0.0.1')}/0"
    async with open_cache(url) as cache, open_change_notifier(url) as change_notifier:
        revocations = CacheRevocationPublisher(cache, change_notifier)
        with capture_logs() as logs:
            await revocations.publish("hash")
            await revocations.retract("hash")

    expected = ["redis_unavailable", "revocation_not_published", "redis_unavailable", "revocation_not_retracted"]
    assert [entry["event"] for entry in logs] == expected


async def test_subscribers_are_notified_after_the_publication() -> None:
    cache, change_notifier = MemoryCache(), LocalNotifier()
    with change_notifier.subscribe(session_cache_key("hash")) as news:
        await CacheRevocationPublisher(cache, change_notifier).publish("hash")
        assert news.is_set()
        assert await get_value(cache, session_cache_key("hash")) == REVOKED


class Flaky(MemoryCache):
    """A cache that can be down."""

    is_down = False

    async def set_many(self, values: Mapping[str, str], *, ttl_seconds: float, always: bool = False) -> bool:
        return not self.is_down and await super().set_many(values, ttl_seconds=ttl_seconds, always=always)


async def test_failed_publication_is_repeated_once_the_cache_is_back() -> None:
    cache, change_notifier = Flaky(), LocalNotifier()
    revocations = CacheRevocationPublisher(cache, change_notifier)
    await cache.set_many({session_cache_key("hash"): "the copy"}, ttl_seconds=60)
    cache.is_down = True
    await revocations.publish("hash")
    await revocations.retry_pending()
    assert await get_value(cache, session_cache_key("hash")) == "the copy"

    cache.is_down = False
    with change_notifier.subscribe(session_cache_key("hash")) as news:
        await revocations.retry_pending()
        assert news.is_set()

    assert await get_value(cache, session_cache_key("hash")) == REVOKED


async def test_retracted_and_expired_revocations_are_not_repeated() -> None:
    cache, now = Flaky(), [0.0]
    revocations = CacheRevocationPublisher(cache, LocalNotifier(), clock=lambda: now[0])
    cache.is_down = True
    await revocations.publish("withdrawn")
    await revocations.publish("past")
    await revocations.retract("withdrawn")
    now[0] += 30

    cache.is_down = False
    await revocations.retry_pending()

    assert await get_value(cache, session_cache_key("withdrawn")) is None
    assert await get_value(cache, session_cache_key("past")) is None


async def test_revocation_is_cached_for_30_seconds(redis_url: str) -> None:
    async with open_cache(redis_url) as cache, redis_client(redis_url) as redis:
        await CacheRevocationPublisher(cache, LocalNotifier()).publish("for 30 s")
        assert 29_000 < await redis.pttl(session_cache_key("for 30 s")) <= 30_000


async def test_pending_revocation_is_repeated_for_30_seconds_and_once() -> None:
    cache, now = Flaky(), [0.0]
    revocations = CacheRevocationPublisher(cache, LocalNotifier(), clock=lambda: now[0])
    cache.is_down = True
    await revocations.publish("owed")
    cache.is_down = False
    now[0] = 29.9
    await revocations.retry_pending()
    assert await get_value(cache, session_cache_key("owed")) == REVOKED

    await cache.set_many({session_cache_key("owed"): "the copy of a session that was restored"}, ttl_seconds=60)
    await revocations.retry_pending()
    assert await get_value(cache, session_cache_key("owed")) == "the copy of a session that was restored"


async def test_pending_revocation_is_published_soon_after_recovery() -> None:
    cache = Flaky()
    revocations = CacheRevocationPublisher(cache, LocalNotifier())
    cache.is_down = True
    await revocations.publish("owed")
    async with BackgroundTasks() as tasks, asyncio.timeout(3):
        tasks.start(revocations.retry_regularly(), name="post")
        await asyncio.sleep(0.7)
        cache.is_down = False
        while await get_value(cache, session_cache_key("owed")) != REVOKED:  # noqa: ASYNC110 - it sends no event
            await asyncio.sleep(0.02)
