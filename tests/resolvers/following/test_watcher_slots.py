"""Resources of watchers: long-polls, tasks, and describe calls."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import Client

from contracts.errors import OperationNotFound, ServiceUnavailable
from resolvers.following.hub import ProgressHub
from resolvers.following.long_poll_quota import LongPollQuota
from resolvers.following.watcher import DeliveryMode
from tests.gateway.live_gateway import wait_until
from tests.resolvers.following.recorded_calls import with_recorded_calls
from tests.resolvers.following.watcher_helpers import follow, watcher_tasks
from tests.resolvers.scripted import ScriptStarter, next_of


@pytest.mark.parametrize("reason", ["closed", "no subscriber", "never existed"])
async def test_releases_the_long_poll_exactly_once(
    temporal_client: Client, starter: ScriptStarter, reason: str
) -> None:
    linger_seconds = 60 if reason == "closed" else 0
    long_poll_quota = LongPollQuota(max_long_polls=1)
    async with ProgressHub(temporal_client, long_poll_quota=long_poll_quota, linger_seconds=linger_seconds) as hub:
        for _ in range(2):
            script = await starter.start()
            if reason == "never existed":
                with pytest.raises(OperationNotFound):
                    await next_of(hub.watch("login-" + "0" * 32))
            states = hub.watch(script.id)
            await next_of(states)
            delivery = hub.delivery(script.id)
            assert delivery is not None
            assert delivery.mode is DeliveryMode.STREAM
            await script.end()
            if reason == "closed":
                assert (await next_of(states)).is_closed
            await states.aclose()
            await wait_until(lambda id=script.id: watcher_tasks(id) == [])  # type: ignore[misc]
        assert long_poll_quota.acquire()
        assert not long_poll_quota.acquire()


@pytest.mark.parametrize("max_long_polls", [1, 0])
async def test_watcher_tasks_end_when_the_last_subscriber_leaves(
    temporal_client: Client, starter: ScriptStarter, max_long_polls: int
) -> None:
    long_poll_quota = LongPollQuota(max_long_polls=max_long_polls)
    async with ProgressHub(temporal_client, long_poll_quota=long_poll_quota, linger_seconds=0.05) as hub:
        script = await starter.start()
        first, second = hub.watch(script.id), hub.watch(script.id)
        await next_of(first)
        await next_of(second)
        assert (len(watcher_tasks(script.id)), long_poll_quota.watchers_without_long_poll) == (2, 1 - max_long_polls)
        await first.aclose()
        await asyncio.sleep(0.3)
        assert len(watcher_tasks(script.id)) == 2, "one subscriber is left"
        await second.aclose()
        await wait_until(lambda: watcher_tasks(script.id) == [])
        assert long_poll_quota.watchers_without_long_poll == 0
        await script.end()


async def test_returning_subscriber_reuses_a_lingering_watcher(temporal_client: Client, starter: ScriptStarter) -> None:
    client, calls = with_recorded_calls(temporal_client)
    async with ProgressHub(client, linger_seconds=0.5) as hub:
        script = await starter.start()
        for _ in range(2):
            states = hub.watch(script.id)
            await next_of(states)
            await states.aclose()
        states = hub.watch(script.id)
        await next_of(states)
        await asyncio.sleep(1)
        assert calls.poll_count == 1
        await script.move()
        assert (await next_of(states)).position.revision == 1
        await states.aclose()
        await script.end()


async def test_streams_raise_service_unavailable_when_the_hub_is_closed(
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


async def test_describe_interval_is_one_second_and_grows_above_100_per_second(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    client, calls = with_recorded_calls(temporal_client)
    long_poll_quota = LongPollQuota(max_long_polls=0)
    async with ProgressHub(client, long_poll_quota=long_poll_quota) as hub, follow(hub, starter) as (script, _):
        before = len(calls.descriptions)
        await asyncio.sleep(3)
        assert 1 <= len(calls.descriptions) - before <= 4
        long_poll_quota.watchers_without_long_poll += 999
        assert long_poll_quota.interval == 10
        long_poll_quota.watchers_without_long_poll -= 999
        await script.end()
