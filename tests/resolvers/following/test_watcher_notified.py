"""Watchers without a long-poll, which read the state after change notifications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from contracts.errors import OperationNotFound
from contracts.operations import Operation
from infrastructure.change_notifications import LocalNotifier
from infrastructure.temporal.operation_history import to_operation
from resolvers.following import watcher
from resolvers.following.hub import ProgressHub
from resolvers.following.long_poll_quota import LongPollQuota
from resolvers.following.watcher import DeliveryMode
from tests.gateway.live_gateway import wait_until
from tests.gateway.temporal_calls import TemporalCalls
from tests.resolvers.following.watcher_helpers import StateRecorder
from tests.resolvers.scripted import Script, ScriptStarter, next_of

NEVER = 1000.0


class WatchedOperation:
    """An operation with one subscriber; the test sends the notifications. ``calls`` counts the calls to Temporal."""

    def __init__(self, hub: ProgressHub, change_notifier: LocalNotifier, script: Script, calls: TemporalCalls) -> None:
        self.hub, self.change_notifier, self.script, self.calls = hub, change_notifier, script, calls
        self.states: AsyncGenerator[Operation] = hub.watch(script.id)

    async def notify(self) -> None:
        await self.change_notifier.notify_topics([self.script.id])

    async def move(self) -> None:
        """Move the operation without a notification, and wait until Temporal shows the change."""
        before = (await self.describe()).position.revision
        await self.script.move()
        async with asyncio.timeout(15):
            while (await self.describe()).position.revision == before:  # noqa: ASYNC110 - Temporal sends no event
                await asyncio.sleep(0.02)

    async def describe(self) -> Operation:
        return await to_operation(await self.script.handle.describe(), self.script.client)


@asynccontextmanager
async def watched_operation(
    client: Client, starter: ScriptStarter, *, check_interval_seconds: float = NEVER
) -> AsyncIterator[WatchedOperation]:
    """Start and follow an operation; the first state has been read."""
    calls, change_notifier = TemporalCalls(), LocalNotifier()
    config = client.config()
    config["interceptors"] = [*config["interceptors"], calls]
    long_poll_quota = LongPollQuota(max_long_polls=0, check_interval_seconds=check_interval_seconds)
    async with ProgressHub(
        Client(**config), long_poll_quota=long_poll_quota, change_notifier=change_notifier, linger_seconds=0
    ) as hub:
        watched = WatchedOperation(hub, change_notifier, await starter.start(), calls)
        async with aclosing(watched.states):
            await next_of(watched.states)
            calls.counts.clear()
            yield watched
        with suppress(RPCError):  # the test may have ended the operation
            await watched.script.end()


async def test_reads_the_state_once_for_each_notification(temporal_client: Client, starter: ScriptStarter) -> None:
    async with watched_operation(temporal_client, starter) as watched:
        for revision in (1, 2, 3):
            await watched.move()
            await watched.notify()
            assert (await next_of(watched.states)).position.revision == revision
        assert watched.calls.counts["describe"] == 3
        delivery = watched.hub.delivery(watched.script.id)
        assert delivery is not None
        assert (delivery.mode, delivery.interval_ms) == (DeliveryMode.NOTIFIED, NEVER * 1000)


async def test_final_state_does_not_change_the_delivery_mode(temporal_client: Client, starter: ScriptStarter) -> None:
    async with watched_operation(temporal_client, starter, check_interval_seconds=0.2) as watched:
        await watched.script.end()
        assert (await next_of(watched.states)).is_closed
        assert watched.hub.watchers_by_mode == {DeliveryMode.NOTIFIED: 1}


async def test_reads_within_one_check_interval_after_a_lost_notification(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    async with watched_operation(temporal_client, starter, check_interval_seconds=1) as watched:
        await watched.move()
        assert (await next_of(watched.states, 1.2)).position.revision == 1
        await watched.script.handle.terminate()  # a termination sends no notification
        assert (await next_of(watched.states, 1.5)).is_closed
        with pytest.raises(StopAsyncIteration):
            await next_of(watched.states)


async def test_notification_without_a_newer_state_delivers_nothing(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    async with watched_operation(temporal_client, starter) as watched:
        await watched.move()
        await watched.notify()
        assert (await next_of(watched.states)).position.revision == 1
        recorder = StateRecorder()
        recording = asyncio.create_task(recorder.follow(watched.hub.watch(watched.script.id)))
        for _ in range(3):
            await watched.notify()
            await asyncio.sleep(0.3)
        assert recorder.revisions == [1]
        await watched.move()
        await watched.notify()
        await wait_until(lambda: recorder.revisions == [1, 2])
        recording.cancel()
        await asyncio.wait([recording])


async def test_reads_again_if_a_notification_arrives_before_temporal_shows_the_change(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    async with watched_operation(temporal_client, starter) as watched:
        await watched.notify()
        await wait_until(lambda: watched.calls.counts["describe"] == 1)
        await watched.script.move()  # without a further notification
        assert (await next_of(watched.states)).position.revision == 1


async def test_reads_again_after_a_notification_during_a_read(temporal_client: Client, starter: ScriptStarter) -> None:
    async with watched_operation(temporal_client, starter) as watched:
        await watched.move()
        watched.calls.delay_seconds = 0.4
        await watched.notify()
        await wait_until(lambda: watched.calls.counts["describe"] == 1)
        await watched.notify()
        await wait_until(lambda: watched.calls.counts["describe"] == 2)
        assert (await next_of(watched.states)).position.revision == 1


async def test_reads_once_if_notifications_may_have_been_missed(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    """Repeated reads, as after a notification, of thousands of operations would take a minute."""
    async with watched_operation(temporal_client, starter) as watched:
        (subscription,) = watched.change_notifier._subscriptions[watched.script.id]  # noqa: SLF001
        subscription.set_active(is_active=True)  # as after a reconnection to Redis
        await asyncio.sleep(2)
        assert watched.calls.counts["describe"] == 1


async def test_ends_its_topic_subscription(temporal_client: Client, starter: ScriptStarter) -> None:
    async with watched_operation(temporal_client, starter) as watched:
        assert list(watched.change_notifier._subscriptions) == [watched.script.id]  # noqa: SLF001 - otherwise it grows by one per operation
    assert watched.change_notifier._subscriptions == {}  # noqa: SLF001


async def test_continues_without_a_current_state_while_temporal_is_unavailable(
    temporal_client: Client, starter: ScriptStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_BACKOFF_RANGE_SECONDS", (0.05, 0.1))
    async with watched_operation(temporal_client, starter) as watched:
        watched.calls.is_unavailable = True
        await watched.move()
        await watched.notify()
        await wait_until(lambda: watched.calls.counts["describe"] > 3)
        assert watched.hub.current(watched.script.id) is None
        watched.calls.is_unavailable = False
        assert (await next_of(watched.states)).position.revision == 1
        current = watched.hub.current(watched.script.id)
        assert current is not None
        assert current.position.revision == 1


@pytest.mark.parametrize(("times", "is_not_found"), [(5, False), (6, True)])
async def test_raises_not_found_after_six_consecutive_not_found_errors(
    temporal_client: Client,
    starter: ScriptStarter,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    is_not_found: bool,
) -> None:
    monkeypatch.setattr(watcher, "_BACKOFF_RANGE_SECONDS", (0.01, 0.02))
    async with watched_operation(temporal_client, starter) as watched:
        await watched.move()
        watched.calls.fail("describe", RPCStatusCode.NOT_FOUND, times)
        await watched.notify()
        if is_not_found:
            with pytest.raises(OperationNotFound):
                await next_of(watched.states)
        else:
            assert (await next_of(watched.states)).position.revision == 1
        assert watched.calls.counts["describe"] == 6


async def test_acquires_a_long_poll_as_soon_as_one_is_available(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    long_poll_quota, change_notifier = LongPollQuota(max_long_polls=1), LocalNotifier()
    async with ProgressHub(
        temporal_client, long_poll_quota=long_poll_quota, change_notifier=change_notifier, linger_seconds=0
    ) as hub:
        first, second = await starter.start(), await starter.start()
        async with aclosing(hub.watch(first.id)) as held, aclosing(hub.watch(second.id)) as states:
            await next_of(held)
            await next_of(states)
            assert hub.watchers_by_mode == {DeliveryMode.STREAM: 1, DeliveryMode.NOTIFIED: 1}
            await first.end()
            assert (await next_of(held)).is_closed
            await change_notifier.notify_topics([second.id])
            await wait_until(lambda: (hub.delivery(second.id) or (None,))[0] is DeliveryMode.STREAM)
            assert long_poll_quota.watchers_without_long_poll == 0
            for revision in (1, 2):
                await second.move()
                assert (await next_of(states)).position.revision == revision
        await second.end()
