"""TaggedCache: one load for simultaneous callers, invalidation by tags, expiry, encryption and outages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from pydantic import TypeAdapter
from redis.asyncio import Redis

from contracts.errors import ServiceUnavailable
from infrastructure.caching.cache import Cache, MemoryCache, RedisCache
from infrastructure.caching.tagged_cache import CLAIMED, CachedValue, TaggedCache
from infrastructure.redis_policy import RedisPolicy
from infrastructure.signing.secret_keys import SecretKeys
from resolvers.encryption import Encryptor
from tests.mail_server import silent_server
from tests.redis_access import flush, get_value, open_cache
from tools.chaos.proxy import NORMAL, STALLED, Proxy

TEXT = TypeAdapter(CachedValue[str])

Load = Callable[[], Awaitable[str]]


class Source:
    """Loads ``value`` after ``seconds`` and counts the calls."""

    def __init__(self, value: str = "value", *, seconds: float = 0.0) -> None:
        self.value = value
        self.seconds = seconds
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        value = self.value
        await asyncio.sleep(self.seconds)
        return value


@pytest.fixture(params=["memory", "redis"])
async def processes(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[list[TaggedCache]]:
    """The cache of one process in memory, or the caches of three processes that share a Redis."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            caches: list[Cache] = [MemoryCache()]
        else:
            await flush(redis_url)
            caches = [await stack.enter_async_context(open_cache(redis_url)) for _ in range(3)]
        yield [await stack.enter_async_context(TaggedCache(cache)) for cache in caches]


async def key_for(tagged_cache: TaggedCache, name: str = "value") -> str:
    return f"{name}:{await tagged_cache.version('user:me', 'tenant:here')}"


async def get(tagged_cache: TaggedCache, load: Load, name: str = "value") -> str:
    return (await tagged_cache.get_or_load(await key_for(tagged_cache, name), TEXT, load)).value


async def test_simultaneous_callers_cause_one_load(processes: list[TaggedCache]) -> None:
    source = Source(seconds=0.1)
    found = await asyncio.gather(*(get(tagged_cache, source) for tagged_cache in processes for _ in range(50)))
    assert found == ["value"] * len(found)
    assert source.calls == 1
    assert await get(processes[-1], source) == "value"
    assert source.calls == 1


async def test_different_keys_have_different_values(processes: list[TaggedCache]) -> None:
    assert await get(processes[0], Source("one"), "one") == "one"
    assert await get(processes[-1], Source("other"), "other") == "other"


@pytest.mark.parametrize("scope", ["user:me", "tenant:here"])
async def test_invalidation_takes_effect_in_all_processes(processes: list[TaggedCache], scope: str) -> None:
    source = Source("before")
    await get(processes[0], source)
    source.value = "after"
    await processes[-1].invalidate("user:other", "tenant:elsewhere")
    assert await get(processes[0], source) == "before"
    await processes[-1].invalidate(scope)
    assert [await get(tagged_cache, source) for tagged_cache in processes] == ["after"] * len(processes)
    assert source.calls == 2


async def test_value_that_is_loaded_during_an_invalidation_is_not_found_again(processes: list[TaggedCache]) -> None:
    source = Source("before", seconds=0.1)
    fetching = asyncio.create_task(get(processes[0], source))
    while not source.calls:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.005)
    source.value = "after"
    await processes[-1].invalidate("user:me")
    assert await get(processes[0], source) == "after"
    assert await fetching == "before"
    assert [await get(tagged_cache, source) for tagged_cache in processes] == ["after"] * len(processes)


async def test_load_completes_when_a_caller_is_cancelled(processes: list[TaggedCache]) -> None:
    source = Source(seconds=0.1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await get(processes[0], source)
    await asyncio.sleep(0.2)
    assert await get(processes[-1], source) == "value"
    assert source.calls == 1


async def test_error_of_a_load_reaches_all_callers_and_is_not_kept(processes: list[TaggedCache]) -> None:
    async def fail() -> str:
        await asyncio.sleep(0.05)
        raise ServiceUnavailable(service="files")

    asking = (get(processes[0], fail) for _ in range(5))
    failures = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(failure) for failure in failures} == {ServiceUnavailable}
    assert await get(processes[-1], Source()) == "value"


async def test_next_process_loads_after_a_failed_load(processes: list[TaggedCache]) -> None:
    async def fail() -> str:
        await asyncio.sleep(0.1)
        raise ServiceUnavailable(service="files")

    failing = asyncio.create_task(get(processes[0], fail))
    await asyncio.sleep(0.05)
    if len(processes) > 1:
        async with asyncio.timeout(4):  # its claim would expire after six seconds
            assert await get(processes[1], Source()) == "value"
    with pytest.raises(ServiceUnavailable):
        await failing


async def test_failed_or_cancelled_load_releases_its_claim(redis_url: str) -> None:
    begun = asyncio.Event()

    async def fetch() -> str:
        begun.set()
        await asyncio.sleep(60)
        raise AssertionError

    async def fail() -> str:
        raise ServiceUnavailable(service="files")

    async with open_cache(redis_url) as cache, Redis.from_url(redis_url) as redis:
        await flush(redis_url)
        async with TaggedCache(cache) as tagged_cache:
            key = await key_for(tagged_cache)
            with pytest.raises(ServiceUnavailable):
                await get(tagged_cache, fail)
            assert await redis.exists(key) == 0
            waiting = asyncio.create_task(get(tagged_cache, fetch))
            await begun.wait()
            assert 0 < await redis.ttl(key) <= 6, "the claim of a killed process expires"
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await redis.exists(key) == 0


async def test_claim_of_a_killed_process_blocks_others_only_until_it_expires(redis_url: str) -> None:
    async with open_cache(redis_url) as cache, TaggedCache(cache) as tagged_cache:
        await flush(redis_url)
        await cache.set_many({await key_for(tagged_cache): CLAIMED}, ttl_seconds=1)
        assert await asyncio.wait_for(get(tagged_cache, Source()), 3) == "value"


async def test_value_expires_after_30_seconds_and_tag_versions_live_longer(redis_url: str) -> None:
    async with (
        open_cache(redis_url) as cache,
        TaggedCache(cache) as tagged_cache,
        Redis.from_url(redis_url) as redis,
    ):
        await flush(redis_url)
        await tagged_cache.invalidate("user:me")
        await get(tagged_cache, Source())
        assert 20 < await redis.ttl(await key_for(tagged_cache)) <= 30
        assert 80 < await redis.ttl("cache:tag:user:me") <= 90, "longer than a load and the lifetime of its value"


async def test_value_of_another_release_is_replaced(processes: list[TaggedCache]) -> None:
    async def of_another_release() -> int:
        return 5

    tagged_cache = processes[0]
    await tagged_cache.get_or_load(await key_for(tagged_cache), TypeAdapter(CachedValue[int]), of_another_release)
    assert await get(tagged_cache, Source()) == "value"
    assert await get(processes[-1], Source("another")) == "value"


async def test_without_cache_simultaneous_callers_still_share_one_load() -> None:
    source = Source(seconds=0.05)
    async with open_cache("redis://127.0.0.1:1/0") as away, TaggedCache(away) as tagged_cache:
        for times in (1, 2):
            assert set(await asyncio.gather(*(get(tagged_cache, source) for _ in range(20)))) == {"value"}
            assert source.calls == times
        await tagged_cache.invalidate("user:me")


async def test_hanging_cache_delays_only_one_call() -> None:
    async with silent_server() as port:
        url = f"redis://127.0.0.1:{port}/0"
        async with open_cache(url, timeout_seconds=0.3) as cache, TaggedCache(cache) as tagged_cache:
            loop = asyncio.get_running_loop()
            waits = []
            for _ in range(20):
                before = loop.time()
                assert await get(tagged_cache, Source()) == "value"
                waits.append(loop.time() - before)
            assert sum(wait > 0.2 for wait in waits) <= 2, "the first read, and a busy machine"


async def test_invalidation_reaches_other_processes_when_the_cache_is_available_again(redis_url: str) -> None:
    """The process that invalidates has noticed the beginning of the outage but not its end."""
    port = urlsplit(redis_url).port
    assert port is not None
    await flush(redis_url)
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(port))
        policy = RedisPolicy(f"redis://127.0.0.1:{proxy.port}/0", timeout_seconds=0.3, probe_interval_seconds=3600)
        redis = await stack.enter_async_context(policy.running())
        here = await stack.enter_async_context(TaggedCache(RedisCache(redis)))
        other = await stack.enter_async_context(open_cache(redis_url))
        elsewhere = await stack.enter_async_context(TaggedCache(other))
        source = Source("before")
        assert await get(elsewhere, source) == "before"
        await proxy.set_conditions(STALLED)
        assert await get(here, source) == "before"
        await asyncio.sleep(0.5)  # the first probe fails, too
        await proxy.set_conditions(NORMAL)
        assert not redis.is_available
        source.value = "after"
        await here.invalidate("user:me")
        assert await get(elsewhere, source) == "after"


async def test_encrypted_values_are_not_readable_in_the_cache(redis_url: str) -> None:
    key, encryptor = f"copy-{uuid4().hex}", Encryptor(SecretKeys(b"a secret"), "tagged_cache")

    async def fetch() -> str:
        return "a name"

    async with (
        open_cache(redis_url) as cache,
        TaggedCache(cache, encryption=encryptor) as one,
        TaggedCache(cache, encryption=encryptor) as another,
    ):
        await one.get_or_load(key, TEXT, fetch)
        kept = await get_value(cache, key) or ""
        assert kept
        assert "a name" not in kept
        shared = await another.get(key, TEXT)
        assert shared is not None
        assert shared.value == "a name"
        await cache.set_many({f"{key}-elsewhere": kept}, ttl_seconds=60)
        assert await another.get(f"{key}-elsewhere", TEXT) is None, "a value is bound to its key"
    async with (
        open_cache(redis_url) as cache,
        TaggedCache(cache, encryption=Encryptor(SecretKeys(b"other"), "tagged_cache")) as stranger,
    ):
        assert await stranger.get(key, TEXT) is None
