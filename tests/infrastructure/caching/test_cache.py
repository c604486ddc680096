"""MemoryCache and RedisCache follow the same rules; RedisCache reports outages; LocalCache evicts and expires."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from infrastructure.caching.cache import Cache, LocalCache, MemoryCache
from tests.mail_server import silent_server
from tests.redis_access import get_value, open_cache, redis_client
from worker.dev.ports import free_port


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    if request.param == "memory":
        yield MemoryCache()
        return
    async with open_cache(request.getfixturevalue("redis_url")) as cache:
        yield cache


@pytest.fixture
def key() -> str:
    return uuid4().hex


async def test_returns_only_existing_values(cache: Cache, key: str) -> None:
    assert await cache.set_many({f"{key}:1": "one", f"{key}:2": "zw\u00f6lf"}, ttl_seconds=60)
    found = await cache.get_many((f"{key}:1", f"{key}:2", f"{key}:3"))
    assert found == {f"{key}:1": "one", f"{key}:2": "zw\u00f6lf"}


async def test_value_expires(cache: Cache, key: str) -> None:
    await cache.set_many({key: "value"}, ttl_seconds=0.2)
    assert await get_value(cache, key) == "value"
    await asyncio.sleep(0.3)
    assert await get_value(cache, key) is None
    assert await cache.add(key, "another", ttl_seconds=60) is True


async def test_adds_a_value_only_if_the_key_has_none(cache: Cache, key: str) -> None:
    assert await cache.add(key, "first", ttl_seconds=60) is True
    assert await cache.add(key, "second", ttl_seconds=60) is False
    assert await get_value(cache, key) == "first"


async def test_only_one_of_simultaneous_callers_adds_the_value(cache: Cache, key: str) -> None:
    added = await asyncio.gather(*(cache.add(key, str(number), ttl_seconds=60) for number in range(50)))
    assert sorted(map(str, added)) == ["False"] * 49 + ["True"]


async def test_replaces_a_value_only_if_it_is_the_expected_value(cache: Cache, key: str) -> None:
    assert await cache.replace(key, "new", expected_value="old", ttl_seconds=60) is False
    await cache.add(key, "old", ttl_seconds=60)
    assert await cache.replace(key, "new", expected_value="another", ttl_seconds=60) is False
    assert await cache.replace(key, "new", expected_value="old", ttl_seconds=0.2) is True
    assert await get_value(cache, key) == "new"
    await asyncio.sleep(0.3)
    assert await get_value(cache, key) is None, "the new value has the new expiry"


async def test_deleted_value_is_not_found(cache: Cache, key: str) -> None:
    await cache.add(key, "value", ttl_seconds=60)
    assert await cache.delete(key)
    assert await cache.delete(key), "deleting a missing value is not an error"
    assert await get_value(cache, key) is None


async def test_bytes_that_are_not_text_do_not_make_other_reads_fail(redis_url: str, key: str) -> None:
    async with open_cache(redis_url) as cache, redis_client(redis_url) as redis:
        await redis.set(f"{key}:bad", b"\xff\xfe")
        await cache.add(f"{key}:good", "value", ttl_seconds=60)
        found = await cache.get_many((f"{key}:bad", f"{key}:good"))
    assert found is not None
    assert found[f"{key}:good"] == "value"


async def test_reads_wait_when_all_connections_are_in_use(redis_url: str, key: str) -> None:
    async with open_cache(redis_url, timeout_seconds=60) as cache, redis_client(redis_url) as looking:
        await cache.add(key, "value", ttl_seconds=60)
        assert await asyncio.gather(*(get_value(cache, key) for _ in range(500))) == ["value"] * 500
        assert len(await looking.client_list()) <= 120


@pytest.mark.parametrize("outage", ["refused", "silent"])
async def test_reports_that_the_cache_is_unavailable(outage: str, key: str) -> None:
    async with silent_server() as port:
        url = f"redis://127.0.0.1:{port if outage == 'silent' else free_port('127.0.0.1')}/0"
        async with open_cache(url, timeout_seconds=0.2) as cache:
            assert await cache.get_many((key,)) is None
            assert await cache.add(key, "value", ttl_seconds=1) is None
            assert await cache.replace(key, "value", expected_value="old", ttl_seconds=1) is None
            assert await cache.set_many({key: "value"}, ttl_seconds=1) is False
            assert await cache.set_many({key: "value"}, ttl_seconds=1, always=True) is False
            assert await cache.delete(key) is False


def test_local_cache_evicts_the_oldest_entry_and_removes_expired_entries() -> None:
    now = 0.0
    cache: LocalCache[str, int] = LocalCache(2, lambda: now)
    for number, key in enumerate("abc"):
        cache.set(key, number, ttl_seconds=10)
    assert [cache.get(key) for key in "abc"] == [None, 1, 2]
    cache.set("b", 5, ttl_seconds=20)
    cache.set("d", 6, ttl_seconds=10)
    assert [cache.get(key) for key in "bcd"] == [5, None, 6], "an entry that was set again is not the oldest"
    now = 10.0
    assert [cache.get(key) for key in "bd"] == [5, None]
    assert len(cache) == 1
