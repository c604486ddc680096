"""Many operations that are followed without a long-poll each: when they are looked at, and how often in all."""

from __future__ import annotations

import asyncio
import time

import pytest
from temporalio.client import Client

from contracts.errors import OperationNotFound
from contracts.operations import Operation
from infrastructure.change_notifications import LocalWakeups
from infrastructure.operation_history import operation_of
from resolvers.poller import OperationPoller
from resolvers.progress import ProgressHub
from tests.gateway.serving import until
from tests.gateway.temporal_calls import TemporalCalls
from tests.resolvers.scripted import Script, ScriptStarter, next_of

NEVER = 1000.0


class World:
    """A poller of one operation. ``calls``: its calls to Temporal."""

    def __init__(self, client: Client, script: Script, *, check_seconds: float = NEVER) -> None:
        self.calls = TemporalCalls()
        config = client.config()
        config["interceptors"] = [*config["interceptors"], self.calls]
        observed = Client(**config)
        self.hub, self.wakeups = ProgressHub(observed), LocalWakeups()
        self.poller = OperationPoller(observed, self.hub, self.wakeups, check_seconds=check_seconds)
        self._script = script
        self._client = client

    async def operation(self) -> Operation:
        return await operation_of(await self._script.handle.describe(), self._client)


async def test_who_leaves_is_counted_no_more_and_leaves_nothing_behind(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    script = await starter.start()
    world = World(temporal_client, script)
    operation = await world.operation()
    async with world.hub:
        streams = [world.poller.newer(operation) for _ in range(3)]
        waiting = [asyncio.create_task(anext(states)) for states in streams]
        await until(lambda: world.poller.following == 3)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        for states in streams:
            await states.aclose()
        assert world.poller.following == 0
        assert world.wakeups._waiting == {}  # noqa: SLF001 - it would grow by one for each operation
        assert world.hub._overhearing == {}  # noqa: SLF001
    await script.end()


async def test_word_that_is_quicker_than_temporal_is_looked_at_again(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    script = await starter.start()
    world = World(temporal_client, script)
    async with world.hub:
        states = world.poller.newer(await world.operation())
        waiting = asyncio.create_task(next_of(states))
        await until(lambda: world.poller.following == 1)
        await world.wakeups.tell(script.id)
        await until(lambda: world.calls.counts["describe"] == 1)
        await script.move()  # without another word
        assert (await waiting).position.revision == 1
        await states.aclose()
    await script.end()


async def test_yields_each_state_once_however_often_it_is_read(temporal_client: Client, starter: ScriptStarter) -> None:
    script = await starter.start()
    world = World(temporal_client, script, check_seconds=0.05)
    async with world.hub:
        states = world.poller.newer(await world.operation())
        waiting = asyncio.create_task(next_of(states))
        await until(lambda: world.calls.counts["describe"] > 5)
        assert not waiting.done()
        await script.end()
        assert (await waiting).is_closed
        with pytest.raises(StopAsyncIteration):
            await next_of(states)


async def test_many_are_looked_at_16_at_once(temporal_client: Client, starter: ScriptStarter) -> None:
    script = await starter.start()
    world = World(temporal_client, script)
    world.calls.slow = 0.5
    await _look_at_all(world, script, 60)
    assert world.calls.most_at_once == 16
    await script.end()


async def test_many_are_looked_at_a_hundred_times_a_second(temporal_client: Client, starter: ScriptStarter) -> None:
    script = await starter.start()
    world = World(temporal_client, script)
    assert await _look_at_all(world, script, 100) >= 0.95
    await script.end()


async def _look_at_all(world: World, script: Script, count: int) -> float:
    """The seconds that it takes until each of so many followers has been looked for once."""
    operation = await world.operation()
    async with world.hub:
        streams = [world.poller.newer(operation) for _ in range(count)]
        waiting = [asyncio.create_task(anext(states)) for states in streams]
        await until(lambda: world.poller.following == count)
        began = time.monotonic()
        await world.wakeups.tell(script.id)
        await until(lambda: world.calls.counts["describe"] >= count, 60)
        took = time.monotonic() - began
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
    return took


async def test_one_is_looked_at_every_five_seconds_and_two_thousand_ever_more_rarely(
    temporal_client: Client,
) -> None:
    async with ProgressHub(temporal_client) as hub:
        poller = OperationPoller(temporal_client, hub, LocalWakeups())
        assert 4 <= min(_intervals(poller)) <= max(_intervals(poller)) <= 6
        poller.following = 2_000
        assert 40 * 0.8 <= min(_intervals(poller)) <= max(_intervals(poller)) <= 40 * 1.2


def _intervals(poller: OperationPoller) -> list[float]:
    return [poller._interval for _ in range(50)]  # noqa: SLF001 - to measure it would take a minute


async def test_temporal_that_does_not_answer_ends_nothing_and_an_operation_that_is_gone_ends_its_stream(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    script = await starter.start()
    world = World(temporal_client, script, check_seconds=0.05)
    async with world.hub:
        operation = await world.operation()
        states = world.poller.newer(operation)
        world.calls.away = True
        waiting = asyncio.create_task(next_of(states))
        await until(lambda: world.calls.counts["describe"] > 3)
        assert not waiting.done()
        world.calls.away = False
        await script.move()
        assert (await waiting).position.revision == 1
        await states.aclose()
        with pytest.raises(OperationNotFound):
            await next_of(world.poller.newer(operation.model_copy(update={"id": "login-" + "0" * 32})))
        assert world.poller.following == 0
    await script.end()
