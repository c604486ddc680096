"""Helpers for tests of the hub and its watchers: recorded states, followed operations, single watchers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from temporalio.client import Client

from contracts.operations import Operation
from infrastructure.change_notifications import LocalNotifier
from resolvers.following.hub import ProgressHub, ignore_delay, ignore_state
from resolvers.following.long_poll_quota import LongPollQuota
from resolvers.following.newest_state import StateObserver
from resolvers.following.watcher import Watcher, WatcherDependencies
from tests.gateway.live_gateway import wait_until
from tests.resolvers.scripted import Script, ScriptStarter, next_of


class StateRecorder:
    """Records the states that one subscriber receives, and those that the hub's observer receives."""

    def __init__(self) -> None:
        self.revisions: list[int] = []
        self.observed: list[tuple[int, ...]] = []

    async def on_state(self, operation: Operation) -> None:
        self.observed.append(operation.position.as_tuple())

    async def follow(self, states: AsyncGenerator[Operation]) -> None:
        async with aclosing(states):
            async for operation in states:
                self.revisions.append(operation.position.revision)


@asynccontextmanager
async def follow(hub: ProgressHub, starter: ScriptStarter) -> AsyncIterator[tuple[Script, AsyncGenerator[Operation]]]:
    """Start an operation and yield it with the stream of its states; the first state has been read."""
    script = await starter.start()
    async with aclosing(hub.watch(script.id)) as states:
        await next_of(states)
        yield script, states


@asynccontextmanager
async def record_states(client: Client, starter: ScriptStarter) -> AsyncIterator[tuple[Script, StateRecorder]]:
    """Start an operation and record its states. The first one has been recorded; the block must end the operation."""
    recorder = StateRecorder()
    async with ProgressHub(client, on_state=recorder.on_state) as hub:
        script = await starter.start()
        recording = asyncio.create_task(recorder.follow(hub.watch(script.id)))
        await wait_until(lambda: recorder.revisions == [0])
        yield script, recorder
        await recording


def start_watcher(client: Client, operation_id: str, on_state: StateObserver = ignore_state) -> Watcher:
    """Start a watcher that belongs to no hub."""
    change_notifier = LocalNotifier(has_publishers=False)
    return Watcher(operation_id, WatcherDependencies(client, LongPollQuota(), change_notifier, on_state, ignore_delay))


def watcher_tasks(operation_id: str) -> list[str]:
    """Return the names of the running tasks of the operation's watcher."""
    names = (f"watch {operation_id}", f"poll heartbeats of {operation_id}")
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() in names]
