"""What a watcher holds and returns: long-poll slots, tasks, and subscribers of its events."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import Client

from contracts.errors import OperationNotFound, ServiceUnavailable
from resolvers.following.hub import ProgressHub
from resolvers.following.long_poll_quota import LongPollQuota
from resolvers.following.watcher import Mode
from tests.gateway.live_gateway import wait_until
from tests.resolvers.following.followed import follow, watcher_tasks
from tests.resolvers.following.polls import with_polls
from tests.resolvers.scripted import ScriptStarter, next_of


@pytest.mark.parametrize("why", ["it has closed", "it has no subscriber", "it was never there"])
async def test_a_long_poll_is_free_for_another_operation_once(
    temporal_client: Client, starter: ScriptStarter, why: str
) -> None:
    lingers = 60 if why == "it has closed" else 0
    budget = LongPollQuota(max_long_polls=1)
    async with ProgressHub(temporal_client, budget=budget, linger_seconds=lingers) as hub:
        for _ in range(2):
            script = await starter.start()
            if why == "it was never there":
                with pytest.raises(OperationNotFound):
                    await next_of(hub.watch("login-" + "0" * 32))
            states = hub.watch(script.id)
            await next_of(states)
            delivery = hub.delivery(script.id)
            assert delivery is not None
            assert delivery.mode is Mode.STREAM
            await script.end()
            if why == "it has closed":
                assert (await next_of(states)).is_closed
            await states.aclose()
            await wait_until(lambda id=script.id: watcher_tasks(id) == [])  # type: ignore[misc]
        assert budget.take()
        assert not budget.take()


@pytest.mark.parametrize("max_long_polls", [1, 0])
async def test_the_last_to_leave_ends_the_tasks_of_a_watcher(
    temporal_client: Client, starter: ScriptStarter, max_long_polls: int
) -> None:
    budget = LongPollQuota(max_long_polls=max_long_polls)
    async with ProgressHub(temporal_client, budget=budget, linger_seconds=0.05) as hub:
        script = await starter.start()
        first, second = hub.watch(script.id), hub.watch(script.id)
        await next_of(first)
        await next_of(second)
        assert (len(watcher_tasks(script.id)), budget.described) == (2, 1 - max_long_polls)
        await first.aclose()
        await asyncio.sleep(0.3)
        assert len(watcher_tasks(script.id)) == 2, "it still has a subscriber"
        await second.aclose()
        await wait_until(lambda: watcher_tasks(script.id) == [])
        assert budget.described == 0
        await script.end()


async def test_who_comes_back_while_a_watcher_lingers_keeps_it(temporal_client: Client, starter: ScriptStarter) -> None:
    client, polls = with_polls(temporal_client)
    async with ProgressHub(client, linger_seconds=0.5) as hub:
        script = await starter.start()
        for _ in range(2):
            states = hub.watch(script.id)
            await next_of(states)
            await states.aclose()
        states = hub.watch(script.id)
        await next_of(states)
        await asyncio.sleep(1)
        assert polls.started == 1
        await script.move()
        assert (await next_of(states)).position.revision == 1
        await states.aclose()
        await script.end()


async def test_closing_the_hub_ends_every_stream_as_a_lost_connection(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    script = await starter.start()
    hub = ProgressHub(temporal_client)
    states = hub.watch(script.id)
    await next_of(states)
    waiting = asyncio.create_task(next_of(states))
    await asyncio.sleep(0)
    await hub.__aexit__(None, None, None)
    with pytest.raises(ServiceUnavailable) as raised:
        await waiting
    assert raised.value.service == "gateway"
    assert watcher_tasks(script.id) == []
    await script.end()


async def test_describes_each_operation_once_a_second_and_all_a_hundred_times_a_second(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    client, polls = with_polls(temporal_client)
    budget = LongPollQuota(max_long_polls=0)
    async with ProgressHub(client, budget=budget) as hub, follow(hub, starter) as (script, _):
        before = len(polls.descriptions)
        await asyncio.sleep(3)
        assert 1 <= len(polls.descriptions) - before <= 4
        budget.described += 999
        assert budget.interval == 10
        budget.described -= 999
        await script.end()
