"""Copies in the shared cache: fetched once for all who ask, never older than the last change, and done without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import NoReturn
from uuid import uuid4

import pytest
from pydantic import TypeAdapter
from redis.asyncio import Redis

from contracts.cache import open_cache
from contracts.errors import ServiceUnavailable
from contracts.secret_keys import SecretKeys
from resolvers.cache import CLAIMED, Copies, Copy
from resolvers.sealing import Seal

TEXT = TypeAdapter(Copy[str])
PATIENCE = 10.0
"""Seconds: what is tested here must not turn on how busy the machine is."""

Fetch = Callable[[], Awaitable[str]]


class Source:
    """Says ``word``, as slowly as a test wants, and counts."""

    def __init__(self, word: str = "word", *, seconds: float = 0.0) -> None:
        self.word = word
        self.seconds = seconds
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        word = self.word
        await asyncio.sleep(self.seconds)
        return word


@pytest.fixture(params=["memory", "redis"])
async def processes(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[list[Copies]]:
    """One that has the cache in its memory, or three that share a Redis."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            caches = [await stack.enter_async_context(open_cache(None))]
        else:
            caches = [await stack.enter_async_context(open_cache(redis_url)) for _ in range(3)]
        await caches[0].clear()
        yield [await stack.enter_async_context(Copies(cache, answer_seconds=PATIENCE)) for cache in caches]


async def key_of(copies: Copies, name: str = "thing") -> str:
    return f"{name}:{await copies.stamp('user:me', 'tenant:here')}"


async def get(copies: Copies, fetch: Fetch, name: str = "thing") -> str:
    return (await copies.get(await key_of(copies, name), TEXT, fetch)).value


async def test_however_many_ask_at_once_it_is_fetched_once(processes: list[Copies]) -> None:
    source = Source(seconds=0.1)
    found = await asyncio.gather(*(get(copies, source) for copies in processes for _ in range(50)))
    assert found == ["word"] * len(found)
    assert source.asked == 1
    assert await get(processes[-1], source) == "word"
    assert source.asked == 1


async def test_things_have_copies_of_their_own(processes: list[Copies]) -> None:
    assert await get(processes[0], Source("one"), "one") == "one"
    assert await get(processes[-1], Source("other"), "other") == "other"


@pytest.mark.parametrize("scope", ["user:me", "tenant:here"])
async def test_a_change_outdates_the_copy_everywhere(processes: list[Copies], scope: str) -> None:
    source = Source("before")
    await get(processes[0], source)
    source.word = "after"
    await processes[-1].changed("user:somebody", "tenant:elsewhere")
    assert await get(processes[0], source) == "before"
    await processes[-1].changed(scope)
    assert [await get(copies, source) for copies in processes] == ["after"] * len(processes)
    assert source.asked == 2


async def test_what_is_fetched_while_it_changes_is_not_found_again(processes: list[Copies]) -> None:
    source = Source("before", seconds=0.1)
    fetching = asyncio.create_task(get(processes[0], source))
    await asyncio.sleep(0.05)
    source.word = "after"
    await processes[-1].changed("user:me")
    assert await get(processes[0], source) == "after"
    assert await fetching == "before"
    assert [await get(copies, source) for copies in processes] == ["after"] * len(processes)


async def test_it_is_fetched_to_its_end_whoever_stops_waiting(processes: list[Copies]) -> None:
    source = Source(seconds=0.1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await get(processes[0], source)
    await asyncio.sleep(0.2)
    assert await get(processes[-1], source) == "word"
    assert source.asked == 1


async def test_a_failure_is_told_to_all_who_wait_and_not_kept(processes: list[Copies]) -> None:
    async def fail() -> str:
        await asyncio.sleep(0.05)
        raise ServiceUnavailable(service="files")

    asking = (get(processes[0], fail) for _ in range(5))
    failures = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(failure) for failure in failures} == {ServiceUnavailable}
    assert await get(processes[-1], Source()) == "word"


async def test_where_one_process_fails_the_next_tries(processes: list[Copies]) -> None:
    async def fail() -> str:
        await asyncio.sleep(0.1)
        raise ServiceUnavailable(service="files")

    failing = asyncio.create_task(get(processes[0], fail))
    await asyncio.sleep(0.05)
    if len(processes) > 1:
        async with asyncio.timeout(4):  # its claim would expire after six seconds
            assert await get(processes[1], Source()) == "word"
    with pytest.raises(ServiceUnavailable):
        await failing


async def test_a_fetch_that_failed_or_ended_with_its_process_leaves_no_claim(redis_url: str) -> None:
    begun = asyncio.Event()

    async def fetch() -> str:
        begun.set()
        await asyncio.sleep(60)
        raise AssertionError

    async def fail() -> str:
        raise ServiceUnavailable(service="files")

    async with open_cache(redis_url) as cache, Redis.from_url(redis_url) as redis:
        await cache.clear()
        async with Copies(cache, answer_seconds=PATIENCE) as copies:
            key = await key_of(copies)
            with pytest.raises(ServiceUnavailable):
                await get(copies, fail)
            assert await redis.exists(key) == 0
            waiting = asyncio.create_task(get(copies, fetch))
            await begun.wait()
            assert 0 < await redis.ttl(key) <= 6, "what a process that dies leaves behind expires"
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await redis.exists(key) == 0


async def test_a_process_that_died_holds_up_the_others_only_until_its_claim_expires(redis_url: str) -> None:
    async with open_cache(redis_url) as cache, Copies(cache, answer_seconds=PATIENCE) as copies:
        await cache.clear()
        await cache.set(await key_of(copies), CLAIMED, ttl=1)
        assert await asyncio.wait_for(get(copies, Source()), 3) == "word"


async def test_a_copy_expires_after_30_seconds_and_what_outdates_it_later(redis_url: str) -> None:
    async with (
        open_cache(redis_url) as cache,
        Copies(cache, answer_seconds=PATIENCE) as copies,
        Redis.from_url(redis_url) as redis,
    ):
        await cache.clear()
        await copies.changed("user:me")
        await get(copies, Source())
        assert 20 < await redis.ttl(await key_of(copies)) <= 30
        assert 80 < await redis.ttl("changed:user:me") <= 90, "longer than a fetch and its copy together"


async def test_what_another_release_wrote_is_replaced(processes: list[Copies]) -> None:
    async def of_another_release() -> int:
        return 5

    copies = processes[0]
    await copies.get(await key_of(copies), TypeAdapter(Copy[int]), of_another_release)
    assert await get(copies, Source()) == "word"
    assert await get(processes[-1], Source("another")) == "word"


async def test_without_the_cache_each_is_fetched_but_still_once_for_all_who_ask_at_once() -> None:
    source = Source(seconds=0.05)
    async with open_cache("redis://127.0.0.1:1/0") as away, Copies(away) as copies:
        for times in (1, 2):
            assert set(await asyncio.gather(*(get(copies, source) for _ in range(20)))) == {"word"}
            assert source.asked == times
        await copies.changed("user:me")


async def test_a_cache_that_hangs_is_not_waited_for_each_time() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with open_cache(f"redis://127.0.0.1:{port}/0") as cache, Copies(cache, answer_seconds=0.1) as copies:
            began, waited = loop.time(), 0
            for _ in range(20):
                before = loop.time()
                assert await get(copies, Source()) == "word"
                waited += loop.time() - before > 0.1
            assert waited <= 1 + (loop.time() - began) / 1.0


async def test_a_cache_that_hangs_is_given_up_after_half_a_second_and_asked_again_a_second_later() -> None:
    connections = 0

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with open_cache(f"redis://127.0.0.1:{port}/0") as cache, Copies(cache) as copies:
            began = loop.time()
            assert await get(copies, Source()) == "word"
            assert 0.4 < loop.time() - began < 5
            asked = connections
            assert await get(copies, Source()) == "word"
            assert connections == asked
            await asyncio.sleep(1.1)
            assert await get(copies, Source()) == "word"
            assert connections > asked


async def test_a_change_is_passed_on_as_soon_as_a_cache_that_was_away_is_back(redis_url: str) -> None:
    """The process that makes the change has just found the cache away, and would leave it alone for a second."""
    async with AsyncExitStack() as stack:
        cache = await stack.enter_async_context(open_cache(redis_url))
        await cache.clear()
        here = await stack.enter_async_context(Copies(cache, answer_seconds=PATIENCE))
        other = await stack.enter_async_context(open_cache(redis_url))
        elsewhere = await stack.enter_async_context(Copies(other, answer_seconds=PATIENCE))
        source = Source("before")
        assert await get(elsewhere, source) == "before"
        usual, cache.multi_get = cache.multi_get, _away
        assert await get(here, source) == "before"
        cache.multi_get = usual
        source.word = "after"
        await here.changed("user:me")
        assert await get(elsewhere, source) == "after"


async def _away(*_: object, **__: object) -> NoReturn:
    raise ConnectionError


async def test_with_a_seal_whoever_reads_the_cache_reads_no_copy(redis_url: str) -> None:
    key, seal = f"copy-{uuid4().hex}", Seal(SecretKeys(b"a secret"), "copies")

    async def fetch() -> str:
        return "a name"

    async with open_cache(redis_url) as cache, Copies(cache, seal=seal) as one, Copies(cache, seal=seal) as another:
        await one.get(key, TEXT, fetch)
        kept = await cache.get(key)
        assert "a name" not in kept
        shared = await another.at_hand(key, TEXT)
        assert shared is not None
        assert shared.value == "a name"
        await cache.set(f"{key}-elsewhere", kept)
        assert await another.at_hand(f"{key}-elsewhere", TEXT) is None, "a copy was taken for another"
    async with open_cache(redis_url) as cache, Copies(cache, seal=Seal(SecretKeys(b"other"), "copies")) as stranger:
        assert await stranger.at_hand(key, TEXT) is None
