"""The order of the states that a watcher delivers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from temporalio.client import Client

from contracts.base import utc_now
from contracts.operations import Operation, OperationKind, OperationState, OperationStatus, Position, StepStatus
from infrastructure.temporal.operation_history import to_operation
from resolvers.following.hub import ProgressHub
from tests.resolvers.following.followed import StateRecorder, recorded, watcher_of
from tests.resolvers.following.polls import with_polls
from tests.resolvers.scripted import OWNER, ScriptStarter


async def test_each_of_several_states_of_one_page_is_delivered_by_itself(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    client, polls = with_polls(temporal_client)
    async with recorded(client, starter) as (script, recorder):
        polls.may_fetch.clear()
        for _ in range(4):
            await script.move()
        async with asyncio.timeout(15):
            while (await to_operation(await script.handle.describe(), client)).position.revision < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert recorder.revisions == [0]
        polls.may_fetch.set()
        await script.end()
    assert recorder.revisions == [0, 1, 2, 3, 4, 5]
    assert [position[1] for position in recorder.observed] == recorder.revisions


async def test_of_an_operation_that_has_moved_before_only_the_newest_state_is_delivered(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    recorder = StateRecorder()
    script = await starter.start()
    for _ in range(3):
        await script.move()
    await script.end()
    await script.handle.result()
    async with ProgressHub(temporal_client, observe=recorder.observe) as hub:
        await recorder.follow(hub.watch(script.id))
    assert recorder.revisions == [4]
    assert len(recorder.observed) == 1


async def test_a_state_that_was_being_observed_does_not_replace_a_newer_one(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    """History and a description bring two states at one moment, and the newer one is through first."""
    client, polls = with_polls(temporal_client)
    polls.may_fetch.clear()
    may_go_on, begun = asyncio.Event(), asyncio.Event()

    async def observe(operation: Operation) -> None:
        if operation.position.revision == 1:
            begun.set()
            await may_go_on.wait()

    script = await starter.start()
    watching = watcher_of(client, script.id, observe)
    older = asyncio.create_task(watching.state.publish(at(script.id, 1)))
    await begun.wait()
    await watching.state.publish(at(script.id, 2))
    may_go_on.set()
    await older
    assert watching.state.latest.position.revision == 2
    await watching.state.publish(at(script.id, 1))
    assert watching.state.latest.position.revision == 2
    await watching.stop()
    await script.end()


def at(operation_id: str, revision: int) -> Operation:
    first = OperationState.first(OperationKind.TENANT_SWITCH, utc_now(), started_by=OWNER)
    return Operation(
        id=operation_id,
        kind=OperationKind.TENANT_SWITCH,
        user_id=OWNER,
        tenant_ids=(),
        state=first.model_copy(update={"revision": revision, "status": OperationStatus.RUNNING}),
        position=Position(revision=revision),
    )


async def test_the_delivered_fraction_of_a_step_never_falls_though_that_of_an_attempt_does(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    client, polls = with_polls(temporal_client)
    async with ProgressHub(client) as hub:
        states = hub.watch(await starter.start_labour())
        async with asyncio.timeout(40), aclosing(states):
            steps = [operation.state.steps[0] async for operation in states]
    described = [(await to_operation(each, client)).state.steps[0].fraction or 0.0 for each in polls.descriptions]
    assert described != sorted(described), "the second attempt begins anew"
    delivered = [step.fraction for step in steps if step.status in (StepStatus.RUNNING, StepStatus.RETRYING)]
    known = [fraction for fraction in delivered if fraction is not None]
    assert max(known) == 0.5
    assert known == sorted(known)
    first = next(index for index, fraction in enumerate(delivered) if fraction is not None)
    assert None not in delivered[first:]
