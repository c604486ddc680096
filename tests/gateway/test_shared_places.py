"""Sockets by user and by address are counted by all gateways together, and nothing that is open ends with Redis."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from contracts.cache import redis_at
from contracts.errors import RateLimited
from gateway.shared_places import SharedPlaces
from gateway.socket_limits import Places
from tests.gateway.fakes import TOKEN, Services, settings
from tests.gateway.serving import WHO, running_gateway
from tests.gateway.test_revoked import Server

SECRET = b"s" * 32
NOBODY_LISTENS = "redis://127.0.0.1:1/0"


@asynccontextmanager
async def a_process(redis: Redis, most: int, *, lease_seconds: float = 60) -> AsyncIterator[Places]:
    shared = SharedPlaces(redis, SECRET, lease_seconds=lease_seconds)
    places = Places("user", most)
    places.shared = shared
    async with shared.counted():
        yield places


@pytest.fixture
def who() -> str:
    return uuid4().hex


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with redis_at(redis_url) as redis:
        yield redis


async def got(places: Places, who: str, times: int) -> list[AbstractContextManager[None]]:
    """The places that were given of so many asked for at once, each of them taken."""
    asked = await asyncio.gather(*(places.take(who) for _ in range(times)), return_exceptions=True)
    given = [each for each in asked if not isinstance(each, BaseException)]
    assert len(given) + sum(isinstance(each, RateLimited) for each in asked) == times
    for each in given:
        each.__enter__()
    return given


async def until_got(places: Places, who: str, times: int) -> None:
    async with asyncio.timeout(10):
        taken = await got(places, who, times)
        while len(taken) < times:
            await asyncio.sleep(0.02)
            taken += await got(places, who, times - len(taken))


async def until_so_many_of_users(most: int, server: Server) -> None:
    async with asyncio.timeout(10):
        while True:
            keys = await server.do("KEYS", "places:user:*")
            told = [value for key in keys for value in await server.do("HVALS", key)]
            if sum(int(value.split()[0]) for value in told) == most:
                return
            await asyncio.sleep(0.02)


async def test_all_processes_together_give_no_more_than_there_are(redis: Redis, who: str) -> None:
    async with a_process(redis, 10) as one, a_process(redis, 10) as other:
        here, there = await asyncio.gather(got(one, who, 8), got(other, who, 8))
        assert len(here) + len(there) == 10
        assert len(await got(one, uuid4().hex, 10)) == 10, "those of others are theirs"


async def test_what_is_given_back_may_be_had_in_another_process(redis: Redis, who: str) -> None:
    async with a_process(redis, 2) as one, a_process(redis, 2) as other:
        first, second = await got(one, who, 2)
        assert await got(other, who, 1) == []
        first.__exit__(None, None, None)
        await until_got(other, who, 1)
        second.__exit__(None, None, None)


async def test_what_a_killed_process_held_is_free_after_a_while(redis: Redis, who: str) -> None:
    killed = Places("user", 2)
    killed.shared = SharedPlaces(redis, SECRET, lease_seconds=0.5)
    counting = asyncio.create_task(killed.shared._run())  # noqa: SLF001 - left without a word, as none is said
    held = await got(killed, who, 2)
    counting.cancel()
    async with a_process(redis, 2) as other:
        assert await got(other, who, 1) == []
        await until_got(other, who, 2)
    assert len(held) == 2


async def test_what_redis_forgets_is_told_it_again(redis: Redis, who: str) -> None:
    async with a_process(redis, 2, lease_seconds=0.3) as one, a_process(redis, 2) as other:
        held = await got(one, who, 2)
        await redis.flushdb()
        await asyncio.sleep(0.4)
        assert await got(other, who, 2) == []
        assert len(held) == 2


async def test_who_leaves_while_waiting_holds_nothing(redis: Redis, who: str) -> None:
    async with a_process(redis, 1) as one, a_process(redis, 1) as other:
        for turns in range(6):  # before it is asked, while it is asked, and once it was answered
            leaving = asyncio.create_task(one.take(who))
            for _ in range(turns):
                await asyncio.sleep(0.0005 * turns)
            leaving.cancel()
            (answer,) = await asyncio.gather(leaving, return_exceptions=True)
            if not isinstance(answer, BaseException):
                with answer:
                    pass
        await until_got(other, who, 1)


async def test_without_redis_each_process_goes_on_by_its_own_count(who: str) -> None:
    async with redis_at(NOBODY_LISTENS) as nowhere, a_process(nowhere, 3) as places:
        async with asyncio.timeout(3):
            held = await got(places, who, 3)
            assert await got(places, who, 1) == []
        assert len(held) == 3


async def test_gateways_share_the_places_of_users_and_of_addresses(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    server = Server(tmp_path)
    server.start()
    told = settings(temporal_address, data_dir=tmp_path, redis_url=server.url, sockets_by_user=2, sockets_by_address=3)
    try:
        async with (
            running_gateway(told, services) as one,
            running_gateway(told, services) as other,
            AsyncExitStack() as stack,
        ):
            for gateway in (one, other):
                socket = await stack.enter_async_context(gateway.open({"authorization": TOKEN}))
                await socket.ask(WHO)
            await until_so_many_of_users(2, server)
            async with one.open({"authorization": TOKEN}) as third_of_ada:
                assert await third_of_ada.end() == 4429
            await stack.enter_async_context(one.open())
            with pytest.raises(Exception, match="4429"):
                await stack.enter_async_context(other.open())
            server.say(signal.SIGKILL)
            assert (await socket.ask(WHO))[0]["type"] == "next"
            async with other.open() as fourth:
                assert (await fourth.ask("{ __typename }"))[0]["type"] == "next"
    finally:
        server.close()
