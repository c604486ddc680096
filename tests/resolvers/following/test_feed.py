"""The feed of a user's operations: what it delivers to whom, in one process and between several."""

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
from resolvers.following.watcher import Mode
from tests.gateway.live_gateway import wait_until as until_true
from tests.gateway.temporal_calls import TemporalCalls
from tests.redis_access import open_redis
from tests.resolvers.operations.recorded import Record, Replica, end, recording_worker, viewer
from tests.resolvers.scripted import OWNER, scripts


async def heard(states: AsyncGenerator[Operation], count: int) -> list[Operation]:
    async with asyncio.timeout(10):
        return [await anext(states) for _ in range(count)]


async def test_delivers_each_operation_as_it_starts_and_closes(temporal_client: Client, record: Record) -> None:
    me, replica = viewer(), Replica(temporal_client, record)
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(me)) as states,
    ):
        first = asyncio.create_task(heard(states, 1))
        await asyncio.sleep(0.3)
        one = await replica.start(starter, me)
        (started,) = await first
        await end(temporal_client, one)
        (closed,) = await heard(states, 1)
        two = await replica.start(starter, me)
        (next_one,) = await heard(states, 1)
        await end(temporal_client, two)

    assert (started.id, started.is_closed) == (one, False)
    assert (closed.id, closed.is_closed) == (one, True)
    assert next_one.id == two


async def test_begins_with_what_is_under_way_and_not_with_what_has_closed(
    temporal_client: Client, record: Record
) -> None:
    me, replica = viewer(), Replica(temporal_client, record)
    async with recording_worker(temporal_client, record, replica.change_notifier) as starter, replica.running():
        old = await replica.start(starter, me)
        await end(temporal_client, old)
        await temporal_client.get_workflow_handle(old).result()
        running = await replica.start(starter, me)
        async with aclosing(replica.feeds.follow(me)) as states:
            (state,) = await heard(states, 1)
        await end(temporal_client, running)

    assert state.id == running


async def test_delivers_no_operations_of_other_users(temporal_client: Client, record: Record) -> None:
    me, other, replica = viewer(), viewer(), Replica(temporal_client, record)
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(me)) as states,
    ):
        listening = asyncio.create_task(heard(states, 1))
        await asyncio.sleep(0.3)
        theirs = await replica.start(starter, other)
        await asyncio.sleep(0.3)
        assert not listening.done()
        mine = await replica.start(starter, me)
        (state,) = await listening
        await end(temporal_client, theirs)
        await end(temporal_client, mine)

    assert state.id == mine


async def test_another_process_is_woken_through_redis(temporal_client: Client, record: Record, redis_url: str) -> None:
    async with open_redis(redis_url) as redis:
        me, here, there = viewer(), Replica(temporal_client, record, redis), Replica(temporal_client, record, redis)
        async with (
            recording_worker(temporal_client, record, there.change_notifier) as starter,
            here.running(),
            there.running(),
            aclosing(here.feeds.follow(me)) as states,
        ):
            listening = asyncio.create_task(heard(states, 1))
            await asyncio.sleep(0.5)
            started = await there.start(starter, me)
            (state,) = await listening
            await end(temporal_client, started)
            (closed,) = await heard(states, 1)

    assert state.id == started
    assert closed.is_closed


async def test_a_lost_wake_up_is_made_good_by_the_next_look(temporal_client: Client, record: Record) -> None:
    me, replica = viewer(), Replica(temporal_client, record, look_seconds=0.5, check_seconds=0.5)
    async with scripts(temporal_client) as starter, replica.running(), aclosing(replica.feeds.follow(me)) as states:
        listening = asyncio.create_task(heard(states, 1))
        await asyncio.sleep(0.3)
        script = await starter.start(user_id=me.user_id)
        await replica.write(script.id)
        (state,) = await listening
        await script.end()
        (closed,) = await heard(states, 1)

    assert state.id == script.id
    assert closed.is_closed


async def test_delivers_each_step_at_once_without_a_long_poll(temporal_client: Client, record: Record) -> None:
    me, replica = viewer(), Replica(temporal_client, record)
    async with recording_worker(temporal_client, record, replica.change_notifier) as starter, replica.running():
        ids = [await replica.start(starter, me) for _ in range(5)]
        delays: list[float] = []
        async with aclosing(replica.feeds.follow(me)) as states:
            assert {state.id for state in await heard(states, 5)} == set(ids)
            for number in range(15):
                moved, operation_id = time.monotonic(), ids[number % 5]
                await temporal_client.get_workflow_handle(operation_id).signal("order", "move")
                (state,) = await heard(states, 1)
                delays.append(time.monotonic() - moved)
                assert (state.id, state.position.revision) == (operation_id, number // 5 + 1)
            assert replica.hub.modes == {Mode.NOTIFIED: 5}
        for operation_id in ids:
            await end(temporal_client, operation_id)
    # Nobody looks by himself within a minute here; a busy machine has its pauses.
    assert sorted(delays)[len(delays) // 2] < 1, delays


async def test_what_is_watched_here_anyway_is_not_asked_for(temporal_client: Client, record: Record) -> None:
    calls = TemporalCalls()
    config = temporal_client.config()
    config["interceptors"] = [calls]
    client = Client(**config)
    me, replica = viewer(), Replica(client, record, max_long_polls=1)
    async with scripts(client) as starter, replica.running(), aclosing(replica.feeds.follow(me)) as states:
        script = await starter.start(user_id=me.user_id)
        async with aclosing(replica.hub.watch(script.id)) as watched:
            await anext(watched)
            await replica.write(script.id)
            calls.counts.clear()
            await heard(states, 1)
            for revision in (1, 2, 3):
                await script.move()
                (state,) = await heard(states, 1)
                assert state.position.revision == revision
            await script.end()
            (closed,) = await heard(states, 1)
    assert closed.is_closed
    assert calls.counts["describe"] == 0


async def test_delivers_retries_and_heartbeats_at_an_interval(temporal_client: Client, record: Record) -> None:
    me, replica = viewer(OWNER), Replica(temporal_client, record, check_seconds=0.3)
    async with scripts(temporal_client) as starter, replica.running(), aclosing(replica.feeds.follow(me)) as states:
        labour = await starter.start_labour()
        await replica.write(labour)
        await replica.change_notifier.notify(me.user_id)
        received: list[Operation] = []
        while not received or not received[-1].is_closed:
            received += await heard(states, 1)
    steps = [state.state.steps[0] for state in received]
    assert any(step.attempt == 2 and step.last_error for step in steps)
    fractions = [step.fraction for step in steps if step.fraction is not None]
    assert 0.5 in fractions
    assert fractions == sorted(fractions)


async def test_any_number_of_followers_share_one_source(temporal_client: Client, record: Record) -> None:
    me, replica = viewer(), Replica(temporal_client, record)
    async with recording_worker(temporal_client, record, replica.change_notifier) as starter, replica.running():
        feeds = [replica.feeds.follow(me) for _ in range(20)]
        listening = [asyncio.create_task(heard(states, 1)) for states in feeds]
        await asyncio.sleep(0.3)
        started = await replica.start(starter, me)
        received = await asyncio.gather(*listening)
        assert replica.hub.watching == 1
        for states in feeds:
            await states.aclose()
        await end(temporal_client, started)

    assert {state.id for (state,) in received} == {started}


async def test_waits_while_the_record_is_unavailable_and_then_delivers_what_started(
    temporal_client: Client, record: Record
) -> None:
    me, replica = viewer(), Replica(temporal_client, record, look_seconds=0.2)
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(me)) as states,
    ):
        record.is_down = True
        listening = asyncio.create_task(heard(states, 1))
        script = await starter.start(user_id=me.user_id)
        await asyncio.sleep(0.5)
        assert not listening.done()
        record.is_down = False
        await replica.write(script.id)
        assert [state.id for state in await listening] == [script.id]
        await script.end()


async def test_continues_after_an_unexpected_error_of_a_read(temporal_client: Client, record: Record) -> None:
    """What goes wrong in the background would otherwise leave followers waiting for ever."""
    me, replica = viewer(), Replica(temporal_client, record, look_seconds=0.1)
    looks = replica.records.newest

    async def wrong(*_: object) -> list[Operation]:
        replica.records.newest = looks  # type: ignore[method-assign]
        raise KeyError("nobody foresaw this")

    replica.records.newest = wrong  # type: ignore[method-assign, assignment]
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(me)) as states,
    ):
        one = await replica.start(starter, me)
        assert [state.id for state in await heard(states, 1)] == [one]
        await end(temporal_client, one)


async def test_streams_raise_service_unavailable_when_feeds_are_closed(
    temporal_client: Client,
    record: Record,
) -> None:
    me, replica = viewer(), Replica(temporal_client, record)
    before = asyncio.all_tasks()
    async with recording_worker(temporal_client, record, replica.change_notifier) as starter, replica.running():
        async with aclosing(replica.feeds.follow(me)) as states:
            started = await replica.start(starter, me)
            assert (await heard(states, 1))[0].id == started
            waiting = asyncio.create_task(heard(states, 1))
            await asyncio.sleep(0.05)
            await replica.feeds.__aexit__(None, None, None)
            with pytest.raises(ServiceUnavailable):
                await waiting
        names = {task.get_name() for task in asyncio.all_tasks() - before}
        assert not {name for name in names if name.startswith(("look for", "feed "))}
        await end(temporal_client, started)


async def test_the_last_follower_to_leave_ends_the_source(temporal_client: Client, record: Record) -> None:
    me, replica = viewer(), Replica(temporal_client, record)
    async with recording_worker(temporal_client, record, replica.change_notifier) as starter, replica.running():
        started = await replica.start(starter, me)
        first, second = replica.feeds.follow(me), replica.feeds.follow(me)
        for states in (first, second):
            await heard(states, 1)
        await until_true(lambda: (looking(), replica.hub.watching) == (1, 1))
        await first.aclose()
        await asyncio.sleep(0.1)
        assert (looking(), replica.hub.watching) == (1, 1)
        await second.aclose()
        assert looking() == 0
        await until_true(lambda: replica.hub.watching == 0)
        again = replica.feeds.follow(me)
        assert [state.id for state in await heard(again, 1)] == [started]
        await again.aclose()
        await end(temporal_client, started)


async def test_a_later_follower_gets_no_operation_that_has_closed_before(
    temporal_client: Client, record: Record
) -> None:
    me, replica = viewer(), Replica(temporal_client, record)
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(me)) as states,
        aclosing(replica.feeds.follow(me)) as later,
    ):
        closed, running = [await replica.start(starter, me) for _ in range(2)]
        assert {state.id for state in await heard(states, 2)} == {closed, running}
        await end(temporal_client, closed)
        assert (await heard(states, 1))[0].is_closed
        assert [state.id for state in await heard(later, 1)] == [running]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(later)
        await end(temporal_client, running)


async def test_a_slow_follower_gets_the_newest_state_of_each_operation(temporal_client: Client, record: Record) -> None:
    me, replica = viewer(), Replica(temporal_client, record)
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(me)) as slow,
        aclosing(replica.feeds.follow(me)) as quick,
    ):
        ids = [await replica.start(starter, me) for _ in range(2)]
        for states in (slow, quick):
            assert {state.id for state in await heard(states, 2)} == set(ids)
        for number in range(1, 4):
            for operation_id in ids:
                await temporal_client.get_workflow_handle(operation_id).signal("order", "move")
                (state,) = await heard(quick, 1)
                assert (state.id, state.position.revision) == (operation_id, number)
        received = await heard(slow, 2)
        assert {(state.id, state.position.revision) for state in received} == {(each, 3) for each in ids}
        for operation_id in ids:
            await end(temporal_client, operation_id)


async def test_a_feed_and_a_subscription_share_one_watcher(temporal_client: Client, record: Record) -> None:
    me, replica = viewer(), Replica(temporal_client, record)
    async with (
        recording_worker(temporal_client, record, replica.change_notifier) as starter,
        replica.running(),
        aclosing(replica.feeds.follow(me)) as states,
    ):
        started = await replica.start(starter, me)
        assert [state.id for state in await heard(states, 1)] == [started]
        async with aclosing(replica.hub.watch(started)) as watched:
            await anext(watched)
            assert replica.hub.watching == 1
            await temporal_client.get_workflow_handle(started).signal("order", "move")
            (state,) = await heard(states, 1)
            assert (await anext(watched)).position == state.position
        await end(temporal_client, started)
        assert (await heard(states, 1))[0].is_closed


async def test_a_feed_delivers_nothing_twice_while_temporal_does_not_answer(
    temporal_client: Client, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolvers.following.hub.FIRST_STATE_SECONDS", 0.2)
    monkeypatch.setattr("resolvers.following.feed._AGAIN_SECONDS", 0.1)
    calls = TemporalCalls()
    config = temporal_client.config()
    config["interceptors"] = [calls]
    me, replica = viewer(), Replica(Client(**config), record, look_seconds=0.2, check_seconds=0.2)
    async with scripts(temporal_client) as starter, replica.running(), aclosing(replica.feeds.follow(me)) as states:
        script = await starter.start(user_id=me.user_id)
        await replica.write(script.id)
        calls.is_unavailable = True
        assert [state.id for state in await heard(states, 1)] == [script.id]
        again = asyncio.create_task(heard(states, 1))
        await asyncio.sleep(2)
        assert not again.done()
        calls.is_unavailable = False
        await script.move()
        assert [state.position.revision for state in await again] == [1]
        await script.end()
        assert (await heard(states, 1))[0].is_closed


def test_the_list_is_looked_at_every_ten_seconds_where_no_word_comes() -> None:
    assert inspect.signature(FeedRegistry).parameters["look_seconds"].default == 10


def looking() -> int:
    return len([task for task in asyncio.all_tasks() if task.get_name() == "look for operations"])
