"""The order of the states that a watcher delivers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from temporalio.client import Client

from contracts.base import utc_now
from contracts.operations import Operation, OperationKind, OperationState, OperationStatus, Position, StepStatus
from infrastructure.temporal.operation_history import to_operation
from resolvers.following.hub import ProgressHub
from tests.resolvers.following.recorded_calls import with_recorded_calls
from tests.resolvers.following.watcher_helpers import StateRecorder, record_states, start_watcher
from tests.resolvers.scripted import OWNER, ScriptStarter


async def test_delivers_each_state_of_a_history_page_separately(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    client, calls = with_recorded_calls(temporal_client)
    async with record_states(client, starter) as (script, recorder):
        calls.may_fetch.clear()
        for _ in range(4):
            await script.move()
        async with asyncio.timeout(15):
            while (await to_operation(await script.handle.describe(), client)).position.revision < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert recorder.revisions == [0]
        calls.may_fetch.set()
        await script.end()
    assert recorder.revisions == [0, 1, 2, 3, 4, 5]
    assert [position[1] for position in recorder.observed] == recorder.revisions


async def test_delivers_only_the_newest_state_to_a_new_subscriber(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    recorder = StateRecorder()
    script = await starter.start()
    for _ in range(3):
        await script.move()
    await script.end()
    await script.handle.result()
    async with ProgressHub(temporal_client, on_state=recorder.on_state) as hub:
        await recorder.follow(hub.watch(script.id))
    assert recorder.revisions == [4]
    assert len(recorder.observed) == 1


async def test_older_state_with_slow_observer_does_not_replace_newer_state(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    """History and a description yield two states at the same time, and the newer one is published first."""
    client, calls = with_recorded_calls(temporal_client)
    calls.may_fetch.clear()
    may_continue, has_started = asyncio.Event(), asyncio.Event()

    async def on_state(operation: Operation) -> None:
        if operation.position.revision == 1:
            has_started.set()
            await may_continue.wait()

    script = await starter.start()
    watcher = start_watcher(client, script.id, on_state)
    older = asyncio.create_task(watcher.state.publish(operation_at(script.id, 1)))
    await has_started.wait()
    await watcher.state.publish(operation_at(script.id, 2))
    may_continue.set()
    await older
    assert watcher.state.latest.position.revision == 2
    await watcher.state.publish(operation_at(script.id, 1))
    assert watcher.state.latest.position.revision == 2
    await watcher.stop()
    await script.end()


def operation_at(operation_id: str, revision: int) -> Operation:
    """Return a running operation in this revision."""
    first = OperationState.first(OperationKind.TENANT_SWITCH, utc_now(), started_by=OWNER)
    return Operation(
        id=operation_id,
        kind=OperationKind.TENANT_SWITCH,
        user_id=OWNER,
        tenant_ids=(),
        state=first.model_copy(update={"revision": revision, "status": OperationStatus.RUNNING}),
        position=Position(revision=revision),
    )


async def test_delivered_fraction_of_a_step_never_decreases_after_a_retry(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    client, calls = with_recorded_calls(temporal_client)
    async with ProgressHub(client) as hub:
        states = hub.watch(await starter.start_long_step())
        async with asyncio.timeout(40), aclosing(states):
            steps = [operation.state.steps[0] async for operation in states]
    described = [
        (await to_operation(description, client)).state.steps[0].fraction or 0.0 for description in calls.descriptions
    ]
    assert described != sorted(described), "the second attempt starts from the beginning"
    delivered = [step.fraction for step in steps if step.status in (StepStatus.RUNNING, StepStatus.RETRYING)]
    fractions = [fraction for fraction in delivered if fraction is not None]
    assert max(fractions) == 0.5
    assert fractions == sorted(fractions)
    first = next(index for index, fraction in enumerate(delivered) if fraction is not None)
    assert None not in delivered[first:]
