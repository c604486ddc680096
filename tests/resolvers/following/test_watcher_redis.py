"""Watchers that receive change notifications through a real Redis, also while Redis fails and returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from infrastructure.change_notifications import RedisNotifier
from infrastructure.temporal.operation_history import to_operation
from resolvers.following.hub import ProgressHub
from resolvers.following.long_poll_quota import LongPollQuota
from resolvers.following.watcher import DeliveryMode
from tests.gateway.live_gateway import wait_until
from tests.redis_access import open_change_notifier, redis_client
from tests.resolvers.following.watcher_helpers import StateRecorder
from tests.resolvers.scripted import ScriptStarter, next_of, scripts
from tests.servers import HOST
from tools.chaos.proxy import DOWN, NORMAL, STALLED, NetworkConditions, Proxy
from worker.progress_notifier import ProgressNotifier

NEVER = 1000.0


@dataclass(frozen=True)
class Gateway:
    """The hub of a gateway process whose connection to Redis a test disturbs, and a worker that publishes."""

    hub: ProgressHub
    change_notifier: RedisNotifier
    proxy: Proxy
    starter: ScriptStarter
    publisher: Redis

    def mode(self, operation_id: str) -> DeliveryMode | None:
        delivery = self.hub.delivery(operation_id)
        return delivery.mode if delivery else None


@pytest.fixture
async def gateway(temporal_client: Client, redis_url: str) -> AsyncIterator[Gateway]:
    async with _gateway(temporal_client, redis_url) as gateway:
        yield gateway


@asynccontextmanager
async def _gateway(client: Client, redis_url: str) -> AsyncIterator[Gateway]:
    long_poll_quota = LongPollQuota(max_long_polls=0, check_interval_seconds=NEVER)
    async with (
        Proxy(urlsplit(redis_url).port or 0) as proxy,
        redis_client(redis_url) as redis,
        open_change_notifier(redis_url) as publisher,
        open_change_notifier(f"redis://{HOST}:{proxy.port}/0") as change_notifier,
    ):
        progress_notifier = ProgressNotifier(publisher, lambda _info, _outcome: None, ())
        async with (
            change_notifier.listening(),
            ProgressHub(
                client, long_poll_quota=long_poll_quota, change_notifier=change_notifier, linger_seconds=0
            ) as hub,
            progress_notifier.running(),
            scripts(client, interceptors=[progress_notifier]) as starter,
        ):
            await wait_until(lambda: change_notifier._topics._is_connected)  # noqa: SLF001
            yield Gateway(hub, change_notifier, proxy, starter, redis)


async def test_worker_notifies_of_each_change_and_of_the_close(gateway: Gateway) -> None:
    script = await gateway.starter.start()
    async with aclosing(gateway.hub.watch(script.id)) as states:
        assert (await next_of(states)).position.revision == 0
        assert gateway.mode(script.id) is DeliveryMode.NOTIFIED
        for revision in (1, 2, 3):
            await script.move()
            assert (await next_of(states, 5)).position.revision == revision
        await script.end()
        assert (await next_of(states, 5)).is_closed


async def test_worker_notifies_of_a_close_without_a_final_state(gateway: Gateway) -> None:
    script = await gateway.starter.start()
    async with aclosing(gateway.hub.watch(script.id)) as states:
        await next_of(states)
        await script.handle.cancel()
        assert (await next_of(states, 5)).is_closed


async def test_process_subscribes_only_to_topics_of_operations_that_it_follows(gateway: Gateway) -> None:
    followed, other = await gateway.starter.start(), await gateway.starter.start()

    async def subscribers(operation_id: str) -> int:
        ((_, count),) = await gateway.publisher.pubsub_numsub(f"changes:topic:{operation_id}")
        return int(count)

    async with aclosing(gateway.hub.watch(followed.id)) as states:
        await next_of(states)
        assert await subscribers(followed.id) == 1
        assert await subscribers(other.id) == 0
    async with asyncio.timeout(5):
        while await subscribers(followed.id) > 0:  # noqa: ASYNC110 - Redis sends no event
            await asyncio.sleep(0.02)
    await followed.end()
    await other.end()


async def test_delivers_a_change_between_the_first_read_and_the_subscription(gateway: Gateway) -> None:
    await gateway.proxy.set_conditions(STALLED)
    script = await gateway.starter.start()
    async with aclosing(gateway.hub.watch(script.id)) as states:
        assert (await next_of(states)).position.revision == 0
        assert gateway.mode(script.id) is DeliveryMode.INTERVAL
        await script.move()
        await _wait_for_revision(script.client, script.id, 1)
        await asyncio.sleep(0.1)  # meanwhile the worker publishes to a process that is not subscribed yet
        await gateway.proxy.set_conditions(NORMAL)
        await wait_until(lambda: gateway.mode(script.id) is DeliveryMode.NOTIFIED)
        assert (await next_of(states, 5)).position.revision == 1
        await script.end()


@pytest.mark.parametrize("conditions", [DOWN, STALLED], ids=["down", "silent"])
async def test_mode_is_interval_only_while_redis_is_unavailable(
    gateway: Gateway, conditions: NetworkConditions
) -> None:
    script = await gateway.starter.start()
    recorder = StateRecorder()
    recording = asyncio.create_task(recorder.follow(gateway.hub.watch(script.id)))
    await wait_until(lambda: recorder.revisions == [0])
    assert gateway.mode(script.id) is DeliveryMode.NOTIFIED

    await gateway.proxy.set_conditions(conditions)
    await wait_until(lambda: gateway.mode(script.id) is DeliveryMode.INTERVAL, 15)
    delivery = gateway.hub.delivery(script.id)
    assert delivery is not None
    assert delivery.interval_ms == 1000
    await script.move()
    await wait_until(lambda: recorder.revisions == [0, 1], 3)

    await gateway.proxy.set_conditions(NORMAL)
    await wait_until(lambda: gateway.mode(script.id) is DeliveryMode.NOTIFIED, 15)
    await script.move()
    await wait_until(lambda: recorder.revisions == [0, 1, 2], 3)
    await script.end()
    await recording
    assert recorder.revisions == [0, 1, 2, 3]


async def _wait_for_revision(client: Client, operation_id: str, revision: int) -> None:
    async with asyncio.timeout(15):
        while True:
            operation = await to_operation(await client.get_workflow_handle(operation_id).describe(), client)
            if operation.position.revision >= revision:
                return
            await asyncio.sleep(0.02)
