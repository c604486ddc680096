"""Temporal's visibility: asked in turn, and for many users at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from aiocache import SimpleMemoryCache
from temporalio.client import Client

from contracts.base import new_id
from contracts.cache import open_cache
from contracts.errors import RateLimited
from contracts.operations import ATTRIBUTE_USER
from resolvers.visibility import USERS_AT_ONCE, Turns, Visibility
from tests.gateway.temporal_calls import TemporalCalls
from tests.resolvers.scripted import TENANT, scripts


def counted(client: Client) -> tuple[Client, TemporalCalls]:
    calls = TemporalCalls()
    config = client.config()
    config["interceptors"] = [*config["interceptors"], calls]
    return Client(**config), calls


async def until_listed(client: Client, user_id: str, count: int) -> None:
    async with asyncio.timeout(20):
        while (await client.count_workflows(f"{ATTRIBUTE_USER} = '{user_id}'")).count < count:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def test_many_users_who_ask_at_once_share_a_few_requests(temporal_client: Client) -> None:
    client, calls = counted(temporal_client)
    me, other = new_id("usr"), new_id("usr")
    async with scripts(temporal_client) as starter, Visibility(client, Turns(SimpleMemoryCache())) as visibility:
        mine = [await starter.start(user_id=me) for _ in range(2)]
        foreign = await starter.start(user_id=other)
        ended = await starter.start(user_id=me)
        await ended.end()
        await ended.handle.result()
        await until_listed(temporal_client, me, 3)
        await until_listed(temporal_client, other, 1)
        strangers = [new_id("usr") for _ in range(300)]
        found, theirs, *nothing = await asyncio.gather(
            *(visibility.running(user_id) for user_id in (me, other, *strangers))
        )
        for script in (*mine, foreign):
            await script.end()
    assert {operation.id for operation in found} == {script.id for script in mine}
    assert [operation.id for operation in theirs] == [foreign.id]
    assert all(operations == [] for operations in nothing)
    assert calls.counts["list"] <= 2 + 302 // USERS_AT_ONCE


async def test_one_list_is_asked_for_once_by_however_many(temporal_client: Client) -> None:
    client, calls = counted(temporal_client)
    async with Visibility(client, Turns(SimpleMemoryCache())) as visibility:
        await asyncio.gather(*(visibility.operations("usr_me", TENANT) for _ in range(50)))
    assert calls.counts["list"] == 1


async def test_a_failure_is_told_to_whoever_asked_and_the_next_question_is_asked_anew(temporal_client: Client) -> None:
    client, calls = counted(temporal_client)
    async with Visibility(client, Turns(SimpleMemoryCache())) as visibility:
        calls.away = True
        failures = await asyncio.gather(*(visibility.running("usr_me") for _ in range(3)), return_exceptions=True)
        assert all(isinstance(failure, Exception) for failure in failures)
        calls.away = False
        assert await visibility.running("usr_me") == []


async def test_whoever_waits_too_long_for_a_list_is_told_to_come_again(temporal_client: Client) -> None:
    client, calls = counted(temporal_client)
    async with Visibility(client, Turns(SimpleMemoryCache()), wait_seconds=0.1) as visibility:
        calls.slow = 0.5
        with pytest.raises(RateLimited):
            await visibility.operations("usr_me", TENANT)
        await asyncio.sleep(0.35)
        assert await visibility.operations("usr_me", TENANT) == []
    assert calls.counts["list"] == 1


@pytest.mark.parametrize("shared", [False, True])
async def test_no_second_sees_more_requests_than_are_allowed(redis_url: str, shared: bool) -> None:
    seconds: Counter[int] = Counter()

    async def take(turns: Turns) -> None:
        await turns.wait()
        seconds[int(time.time())] += 1

    async with open_cache(redis_url if shared else None) as one, open_cache(redis_url if shared else None) as other:
        await one.clear()
        processes = [Turns(one, a_second=5), Turns(other, a_second=5)] if shared else [Turns(one, a_second=5)]
        await asyncio.gather(*(take(turns) for turns in processes for _ in range(12 // len(processes))))
    assert sum(seconds.values()) == 12
    assert max(seconds.values()) <= 6  # 5, and one that was counted at the very end of the second before


async def test_turns_are_taken_alone_while_the_cache_is_away() -> None:
    async with open_cache("redis://127.0.0.1:1/0") as away:
        turns = Turns(away, a_second=3)
        began = time.monotonic()
        await asyncio.gather(*(turns.wait() for _ in range(7)))
        assert time.monotonic() - began > 1


async def test_after_an_unexpected_error_the_same_user_is_asked_about_anew(temporal_client: Client) -> None:
    class Failing(Turns):
        async def wait(self) -> None:
            if failing:
                raise ArithmeticError("unexpected")

    failing = True
    async with Visibility(temporal_client, Failing(SimpleMemoryCache())) as visibility, asyncio.timeout(10):
        with pytest.raises(ArithmeticError):
            await visibility.running("usr_me")
        failing = False
        assert await visibility.running("usr_me") == []
