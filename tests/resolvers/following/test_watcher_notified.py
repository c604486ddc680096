"""A watcher without a long-poll, which change notifications wake."""

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
from resolvers.following.watcher import Mode
from tests.gateway.live_gateway import wait_until
from tests.gateway.temporal_calls import TemporalCalls
from tests.resolvers.following.followed import StateRecorder
from tests.resolvers.scripted import Script, ScriptStarter, next_of

NEVER = 1000.0


class Followed:
    """One operation that is followed with notifications which the test sends. ``calls``: to Temporal."""

    def __init__(self, hub: ProgressHub, change_notifier: LocalNotifier, script: Script, calls: TemporalCalls) -> None:
        self.hub, self.change_notifier, self.script, self.calls = hub, change_notifier, script, calls
        self.states: AsyncGenerator[Operation] = hub.watch(script.id)

    async def notify(self) -> None:
        await self.change_notifier.notify_topics([self.script.id])

    async def move(self) -> None:
        """Move the operation, until Temporal shows the change, without a notification."""
        before = (await self.described()).position.revision
        await self.script.move()
        async with asyncio.timeout(15):
            while (await self.described()).position.revision == before:  # noqa: ASYNC110 - Temporal sends no event
                await asyncio.sleep(0.02)

    async def described(self) -> Operation:
        return await to_operation(await self.script.handle.describe(), self.client)

    @property
    def client(self) -> Client:
        return self.script.handle._client  # noqa: SLF001 - it is not counted


@asynccontextmanager
async def followed(client: Client, starter: ScriptStarter, *, check_seconds: float = NEVER) -> AsyncIterator[Followed]:
    """The first state has been read."""
    calls, change_notifier = TemporalCalls(), LocalNotifier()
    config = client.config()
    config["interceptors"] = [*config["interceptors"], calls]
    budget = LongPollQuota(max_long_polls=0, check_seconds=check_seconds)
    async with ProgressHub(Client(**config), budget=budget, change_notifier=change_notifier, linger_seconds=0) as hub:
        one = Followed(hub, change_notifier, await starter.start(), calls)
        async with aclosing(one.states):
            await next_of(one.states)
            calls.counts.clear()
            yield one
        with suppress(RPCError):  # the test may have ended it
            await one.script.end()


async def test_reads_the_state_once_for_each_notification(temporal_client: Client, starter: ScriptStarter) -> None:
    async with followed(temporal_client, starter) as one:
        for revision in (1, 2, 3):
            await one.move()
            await one.notify()
            assert (await next_of(one.states)).position.revision == revision
        assert one.calls.counts["describe"] == 3
        delivery = one.hub.delivery(one.script.id)
        assert delivery is not None
        assert (delivery.mode, delivery.interval_ms) == (Mode.NOTIFIED, NEVER * 1000)


async def test_the_final_state_is_delivered_in_the_mode_of_those_before(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    async with followed(temporal_client, starter, check_seconds=0.2) as one:
        await one.script.end()
        assert (await next_of(one.states)).is_closed
        assert one.hub.modes == {Mode.NOTIFIED: 1}


async def test_a_lost_notification_costs_one_check_interval_at_most(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    async with followed(temporal_client, starter, check_seconds=1) as one:
        await one.move()
        assert (await next_of(one.states, 1.2)).position.revision == 1
        await one.script.handle.terminate()  # for which no notification is sent
        assert (await next_of(one.states, 1.5)).is_closed
        with pytest.raises(StopAsyncIteration):
            await next_of(one.states)


async def test_a_notification_of_an_older_state_delivers_nothing_and_ends_nothing(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    async with followed(temporal_client, starter) as one:
        await one.move()
        await one.notify()
        assert (await next_of(one.states)).position.revision == 1
        recorder = StateRecorder()
        recording = asyncio.create_task(recorder.follow(one.hub.watch(one.script.id)))
        for _ in range(3):
            await one.notify()
            await asyncio.sleep(0.3)
        assert recorder.revisions == [1]
        await one.move()
        await one.notify()
        await wait_until(lambda: recorder.revisions == [1, 2])
        recording.cancel()
        await asyncio.wait([recording])


async def test_reads_again_if_a_notification_arrives_before_temporal_shows_the_change(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    async with followed(temporal_client, starter) as one:
        await one.notify()
        await wait_until(lambda: one.calls.counts["describe"] == 1)
        await one.script.move()  # without a further notification
        assert (await next_of(one.states)).position.revision == 1


async def test_a_notification_during_a_read_leads_to_another_read(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    async with followed(temporal_client, starter) as one:
        await one.move()
        one.calls.delay_seconds = 0.4
        await one.notify()
        await wait_until(lambda: one.calls.counts["describe"] == 1)
        await one.notify()
        await wait_until(lambda: one.calls.counts["describe"] == 2)
        assert (await next_of(one.states)).position.revision == 1


async def test_reads_once_if_notifications_may_have_been_missed(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    """Several reads, as after a notification, of each of thousands of operations would take a minute."""
    async with followed(temporal_client, starter) as one:
        (subscription,) = one.change_notifier._subscriptions[one.script.id]  # noqa: SLF001
        subscription.set_active(is_active=True)  # as when the connection to Redis was made again
        await asyncio.sleep(2)
        assert one.calls.counts["describe"] == 1


async def test_leaves_no_subscription_behind(temporal_client: Client, starter: ScriptStarter) -> None:
    async with followed(temporal_client, starter) as one:
        assert list(one.change_notifier._subscriptions) == [one.script.id]  # noqa: SLF001 - it would grow by one per operation
    assert one.change_notifier._subscriptions == {}  # noqa: SLF001


async def test_temporal_that_does_not_answer_ends_nothing_and_makes_no_state_current(
    temporal_client: Client, starter: ScriptStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_BACKOFF_SECONDS", (0.05, 0.1))
    async with followed(temporal_client, starter) as one:
        one.calls.is_unavailable = True
        await one.move()
        await one.notify()
        await wait_until(lambda: one.calls.counts["describe"] > 3)
        assert one.hub.current(one.script.id) is None
        one.calls.is_unavailable = False
        assert (await next_of(one.states)).position.revision == 1
        current = one.hub.current(one.script.id)
        assert current is not None
        assert current.position.revision == 1


@pytest.mark.parametrize(("times", "is_gone"), [(5, False), (6, True)])
async def test_a_known_operation_counts_as_gone_if_it_is_not_found_six_times_in_a_row(
    temporal_client: Client,
    starter: ScriptStarter,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    is_gone: bool,
) -> None:
    monkeypatch.setattr(watcher, "_BACKOFF_SECONDS", (0.01, 0.02))
    async with followed(temporal_client, starter) as one:
        await one.move()
        one.calls.fail("describe", RPCStatusCode.NOT_FOUND, times)
        await one.notify()
        if is_gone:
            with pytest.raises(OperationNotFound):
                await next_of(one.states)
        else:
            assert (await next_of(one.states)).position.revision == 1
        assert one.calls.counts["describe"] == 6


async def test_takes_a_long_poll_as_soon_as_one_is_free(temporal_client: Client, starter: ScriptStarter) -> None:
    budget, change_notifier = LongPollQuota(max_long_polls=1), LocalNotifier()
    async with ProgressHub(temporal_client, budget=budget, change_notifier=change_notifier, linger_seconds=0) as hub:
        first, second = await starter.start(), await starter.start()
        async with aclosing(hub.watch(first.id)) as held, aclosing(hub.watch(second.id)) as states:
            await next_of(held)
            await next_of(states)
            assert hub.modes == {Mode.STREAM: 1, Mode.NOTIFIED: 1}
            await first.end()
            assert (await next_of(held)).is_closed
            await change_notifier.notify_topics([second.id])
            await wait_until(lambda: (hub.delivery(second.id) or (None,))[0] is Mode.STREAM)
            assert budget.described == 0
            for revision in (1, 2):
                await second.move()
                assert (await next_of(states)).position.revision == revision
        await second.end()
