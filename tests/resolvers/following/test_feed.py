"""Feeds: the states that subscribers of one user receive, in one process and between processes."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from temporalio.client import Client

from contracts.errors import ServiceUnavailable
from contracts.operations import Operation
from resolvers.following.feed import FeedRegistry
from resolvers.following.watcher import DeliveryMode
from tests.gateway.live_gateway import wait_until as until_true
from tests.gateway.temporal_calls import TemporalCalls
from tests.redis_access import open_redis
from tests.resolvers.operations.record_of_operations import Record, Replica, end, recording_worker, viewer
from tests.resolvers.scripted import OWNER, scripts


async def receive(states: AsyncGenerator[Operation], count: int) -> list[Operation]:
    """Return the next states of the stream."""
    async with asyncio.timeout(10):
        return [await anext(states) for _ in range(count)]


async def test_delivers_each_operation_as_it_starts_and_closes(temporal_client: Client, record: Record) -> None:
    user, replica = viewer(), Replica(temporal_client, record)
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(user)) as states,
    ):
        first = asyncio.create_task(receive(states, 1))
        await asyncio.sleep(0.3)
        one = await replica.start(starter, user)
        (started,) = await first
        await end(temporal_client, one)
        (closed,) = await receive(states, 1)
        two = await replica.start(starter, user)
        (next_one,) = await receive(states, 1)
        await end(temporal_client, two)

    assert (started.id, started.is_closed) == (one, False)
    assert (closed.id, closed.is_closed) == (one, True)
    assert next_one.id == two


async def test_starts_with_running_operations_and_without_closed_ones(temporal_client: Client, record: Record) -> None:
    user, replica = viewer(), Replica(temporal_client, record)
    async with recording_worker(temporal_client, record, replica.change_notifier) as starter, replica.running():
        old = await replica.start(starter, user)
        await end(temporal_client, old)
        await temporal_client.get_workflow_handle(old).result()
        running = await replica.start(starter, user)
        async with aclosing(replica.feeds.follow(user)) as states:
            (state,) = await receive(states, 1)
        await end(temporal_client, running)

    assert state.id == running


async def test_delivers_no_operations_of_other_users(temporal_client: Client, record: Record) -> None:
    user, other, replica = viewer(), viewer(), Replica(temporal_client, record)
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(user)) as states,
    ):
        receiving = asyncio.create_task(receive(states, 1))
        await asyncio.sleep(0.3)
        theirs = await replica.start(starter, other)
        await asyncio.sleep(0.3)
        assert not receiving.done()
        mine = await replica.start(starter, user)
        (state,) = await receiving
        await end(temporal_client, theirs)
        await end(temporal_client, mine)

    assert state.id == mine


async def test_delivers_an_operation_that_another_process_started(
    temporal_client: Client, record: Record, redis_url: str
) -> None:
    async with open_redis(redis_url) as redis:
        user, receiver, sender = (
            viewer(),
            Replica(temporal_client, record, redis),
            Replica(temporal_client, record, redis),
        )
        async with (
            recording_worker(temporal_client, record, sender.change_notifier) as starter,
            receiver.running(),
            sender.running(),
            aclosing(receiver.feeds.follow(user)) as states,
        ):
            receiving = asyncio.create_task(receive(states, 1))
            await asyncio.sleep(0.5)
            started = await sender.start(starter, user)
            (state,) = await receiving
            await end(temporal_client, started)
            (closed,) = await receive(states, 1)

    assert state.id == started
    assert closed.is_closed


async def test_finds_an_operation_at_the_interval_without_a_notification(
    temporal_client: Client, record: Record
) -> None:
    user, replica = viewer(), Replica(temporal_client, record, list_interval_seconds=0.5, check_interval_seconds=0.5)
    async with scripts(temporal_client) as starter, replica.running(), aclosing(replica.feeds.follow(user)) as states:
        receiving = asyncio.create_task(receive(states, 1))
        await asyncio.sleep(0.3)
        script = await starter.start(user_id=user.user_id)
        await replica.write(script.id)
        (state,) = await receiving
        await script.end()
        (closed,) = await receive(states, 1)

    assert state.id == script.id
    assert closed.is_closed


async def test_delivers_each_step_promptly_without_a_long_poll(temporal_client: Client, record: Record) -> None:
    user, replica = viewer(), Replica(temporal_client, record)
    async with recording_worker(temporal_client, record, replica.change_notifier) as starter, replica.running():
        ids = [await replica.start(starter, user) for _ in range(5)]
        delays: list[float] = []
        async with aclosing(replica.feeds.follow(user)) as states:
            assert {state.id for state in await receive(states, 5)} == set(ids)
            for number in range(15):
                moved, operation_id = time.monotonic(), ids[number % 5]
                await temporal_client.get_workflow_handle(operation_id).signal("command", "move")
                (state,) = await receive(states, 1)
                delays.append(time.monotonic() - moved)
                assert (state.id, state.position.revision) == (operation_id, number // 5 + 1)
            assert replica.hub.watchers_by_mode == {DeliveryMode.NOTIFIED: 5}
        for operation_id in ids:
            await end(temporal_client, operation_id)
    # The check interval is a minute, so notifications delivered these states. The median tolerates a slow machine.
    assert sorted(delays)[len(delays) // 2] < 1, delays


async def test_makes_no_describe_call_for_an_operation_with_a_watcher(temporal_client: Client, record: Record) -> None:
    calls = TemporalCalls()
    config = temporal_client.config()
    config["interceptors"] = [calls]
    client = Client(**config)
    user, replica = viewer(), Replica(client, record, max_long_polls=1)
    async with scripts(client) as starter, replica.running(), aclosing(replica.feeds.follow(user)) as states:
        script = await starter.start(user_id=user.user_id)
        async with aclosing(replica.hub.watch(script.id)) as watched:
            await anext(watched)
            await replica.write(script.id)
            calls.counts.clear()
            await receive(states, 1)
            for revision in (1, 2, 3):
                await script.move()
                (state,) = await receive(states, 1)
                assert state.position.revision == revision
            await script.end()
            (closed,) = await receive(states, 1)
    assert closed.is_closed
    assert calls.counts["describe"] == 0


async def test_delivers_retries_and_heartbeats_at_an_interval(temporal_client: Client, record: Record) -> None:
    user, replica = viewer(OWNER), Replica(temporal_client, record, check_interval_seconds=0.3)
    async with scripts(temporal_client) as starter, replica.running(), aclosing(replica.feeds.follow(user)) as states:
        operation_id = await starter.start_long_step()
        await replica.write(operation_id)
        await replica.change_notifier.notify(user.user_id)
        received: list[Operation] = []
        while not received or not received[-1].is_closed:
            received += await receive(states, 1)
    steps = [state.state.steps[0] for state in received]
    assert any(step.attempt == 2 and step.last_error for step in steps)
    fractions = [step.fraction for step in steps if step.fraction is not None]
    assert 0.5 in fractions
    assert fractions == sorted(fractions)


async def test_subscribers_of_one_user_share_one_feed(temporal_client: Client, record: Record) -> None:
    user, replica = viewer(), Replica(temporal_client, record)
    async with recording_worker(temporal_client, record, replica.change_notifier) as starter, replica.running():
        feeds = [replica.feeds.follow(user) for _ in range(20)]
        receiving = [asyncio.create_task(receive(states, 1)) for states in feeds]
        await asyncio.sleep(0.3)
        started = await replica.start(starter, user)
        received = await asyncio.gather(*receiving)
        assert replica.hub.watcher_count == 1
        for states in feeds:
            await states.aclose()
        await end(temporal_client, started)

    assert {state.id for (state,) in received} == {started}


async def test_delivers_operations_started_while_the_record_was_unavailable(
    temporal_client: Client, record: Record
) -> None:
    user, replica = viewer(), Replica(temporal_client, record, list_interval_seconds=0.2)
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(user)) as states,
    ):
        record.is_down = True
        receiving = asyncio.create_task(receive(states, 1))
        script = await starter.start(user_id=user.user_id)
        await asyncio.sleep(0.5)
        assert not receiving.done()
        record.is_down = False
        await replica.write(script.id)
        assert [state.id for state in await receiving] == [script.id]
        await script.end()


async def test_continues_after_an_unexpected_error_of_a_list_read(temporal_client: Client, record: Record) -> None:
    """Without this, subscribers would wait forever."""
    user, replica = viewer(), Replica(temporal_client, record, list_interval_seconds=0.1)
    read_list = replica.records.newest

    async def failing_read(*_: object) -> list[Operation]:
        replica.records.newest = read_list  # type: ignore[method-assign]
        raise KeyError("unexpected")

    replica.records.newest = failing_read  # type: ignore[method-assign, assignment]
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(user)) as states,
    ):
        one = await replica.start(starter, user)
        assert [state.id for state in await receive(states, 1)] == [one]
        await end(temporal_client, one)


async def test_streams_raise_service_unavailable_when_feeds_are_closed(
    temporal_client: Client,
    record: Record,
) -> None:
    user, replica = viewer(), Replica(temporal_client, record)
    before = asyncio.all_tasks()
    async with recording_worker(temporal_client, record, replica.change_notifier) as starter, replica.running():
        async with aclosing(replica.feeds.follow(user)) as states:
            started = await replica.start(starter, user)
            assert (await receive(states, 1))[0].id == started
            waiting = asyncio.create_task(receive(states, 1))
            await asyncio.sleep(0.05)
            await replica.feeds.__aexit__(None, None, None)
            with pytest.raises(ServiceUnavailable):
                await waiting
        names = {task.get_name() for task in asyncio.all_tasks() - before}
        assert not {name for name in names if name.startswith(("poll the list", "feed "))}
        await end(temporal_client, started)


async def test_feed_stops_when_the_last_subscriber_leaves(temporal_client: Client, record: Record) -> None:
    user, replica = viewer(), Replica(temporal_client, record)
    async with recording_worker(temporal_client, record, replica.change_notifier) as starter, replica.running():
        started = await replica.start(starter, user)
        first, second = replica.feeds.follow(user), replica.feeds.follow(user)
        for states in (first, second):
            await receive(states, 1)
        await until_true(lambda: (running_feed_count(), replica.hub.watcher_count) == (1, 1))
        await first.aclose()
        await asyncio.sleep(0.1)
        assert (running_feed_count(), replica.hub.watcher_count) == (1, 1)
        await second.aclose()
        assert running_feed_count() == 0
        await until_true(lambda: replica.hub.watcher_count == 0)
        next_state = replica.feeds.follow(user)
        assert [state.id for state in await receive(next_state, 1)] == [started]
        await next_state.aclose()
        await end(temporal_client, started)


async def test_later_subscriber_receives_no_operation_that_has_closed(temporal_client: Client, record: Record) -> None:
    user, replica = viewer(), Replica(temporal_client, record)
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(user)) as states,
        aclosing(replica.feeds.follow(user)) as later,
    ):
        closed, running = [await replica.start(starter, user) for _ in range(2)]
        assert {state.id for state in await receive(states, 2)} == {closed, running}
        await end(temporal_client, closed)
        assert (await receive(states, 1))[0].is_closed
        assert [state.id for state in await receive(later, 1)] == [running]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(later)
        await end(temporal_client, running)


async def test_slow_subscriber_receives_the_newest_state_of_each_operation(
    temporal_client: Client, record: Record
) -> None:
    user, replica = viewer(), Replica(temporal_client, record)
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(user)) as slow,
        aclosing(replica.feeds.follow(user)) as fast,
    ):
        ids = [await replica.start(starter, user) for _ in range(2)]
        for states in (slow, fast):
            assert {state.id for state in await receive(states, 2)} == set(ids)
        for number in range(1, 4):
            for operation_id in ids:
                await temporal_client.get_workflow_handle(operation_id).signal("command", "move")
                (state,) = await receive(fast, 1)
                assert (state.id, state.position.revision) == (operation_id, number)
        received = await receive(slow, 2)
        assert {(state.id, state.position.revision) for state in received} == {(each, 3) for each in ids}
        for operation_id in ids:
            await end(temporal_client, operation_id)


async def test_feed_and_subscription_share_one_watcher(temporal_client: Client, record: Record) -> None:
    user, replica = viewer(), Replica(temporal_client, record)
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(user)) as states,
    ):
        started = await replica.start(starter, user)
        assert [state.id for state in await receive(states, 1)] == [started]
        async with aclosing(replica.hub.watch(started)) as watched:
            await anext(watched)
            assert replica.hub.watcher_count == 1
            await temporal_client.get_workflow_handle(started).signal("command", "move")
            (state,) = await receive(states, 1)
            assert (await anext(watched)).position == state.position
        await end(temporal_client, started)
        assert (await receive(states, 1))[0].is_closed


async def test_delivers_no_state_twice_while_temporal_is_unavailable(
    temporal_client: Client, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolvers.following.hub.FIRST_STATE_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr("resolvers.following.feed._RETRY_INTERVAL_SECONDS", 0.1)
    calls = TemporalCalls()
    config = temporal_client.config()
    config["interceptors"] = [calls]
    user, replica = viewer(), Replica(Client(**config), record, list_interval_seconds=0.2, check_interval_seconds=0.2)
    async with scripts(temporal_client) as starter, replica.running(), aclosing(replica.feeds.follow(user)) as states:
        script = await starter.start(user_id=user.user_id)
        await replica.write(script.id)
        calls.is_unavailable = True
        assert [state.id for state in await receive(states, 1)] == [script.id]
        next_state = asyncio.create_task(receive(states, 1))
        await asyncio.sleep(2)
        assert not next_state.done()
        calls.is_unavailable = False
        await script.move()
        assert [state.position.revision for state in await next_state] == [1]
        await script.end()
        assert (await receive(states, 1))[0].is_closed


def test_list_interval_is_ten_seconds_by_default() -> None:
    assert inspect.signature(FeedRegistry).parameters["list_interval_seconds"].default == 10


def running_feed_count() -> int:
    """Return the number of feeds that poll their list in this process."""
    return len([task for task in asyncio.all_tasks() if task.get_name() == "poll the list of operations"])
