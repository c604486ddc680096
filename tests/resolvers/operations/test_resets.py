"""The end of a run is not the end of the operation: after a reset another run goes on under the same workflow id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from itertools import pairwise

import pytest
from temporalio.client import Client

from activities.operations.activities import Operations
from activities.operations.record_repair import RecordRepair
from contracts.compensation_repair import EndedOperation
from contracts.operations import Operation, OperationKind, OperationStatus
from infrastructure.change_notifications import LocalNotifier
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.temporal.operation_history import to_operation
from resolvers.following.hub import ProgressHub
from resolvers.following.long_poll_quota import LongPollQuota
from resolvers.following.watcher import Mode
from resolvers.operations.cursors import Cursors
from tests.resolvers.operations.recorded import Record, recording_worker, until, viewer
from tests.resolvers.scripted import Script, ScriptStarter, next_of
from tests.servers import reset_workflow
from worker.repair_scheduler import RepairScheduler

CURSORS = Cursors(SecretKeys(b"secret"))


async def current(client: Client, script: Script) -> Operation:
    return await to_operation(await client.get_workflow_handle(script.id).describe(), client)


async def reached(client: Client, script: Script, revision: int) -> Operation:
    while True:
        operation = await current(client, script)
        if operation.position.revision >= revision:
            return operation
        await asyncio.sleep(0.02)


async def moved(client: Client, script: Script, times: int) -> Operation:
    for _ in range(times):
        await script.move()
    return await reached(client, script, times)


async def to_the_end(states: AsyncGenerator[Operation]) -> list[Operation]:
    async with asyncio.timeout(20), aclosing(states):
        return [state async for state in states]


def assert_in_order(states: list[Operation]) -> None:
    for before, after in pairwise(states):
        assert before.position.as_tuple() < after.position.as_tuple()
        assert not before.is_closed


@pytest.mark.parametrize("kind", OperationKind)
@pytest.mark.parametrize("mode", Mode)
async def test_followers_of_a_reset_operation_see_the_new_run_to_its_end(
    temporal_client: Client, temporal_address: str, starter: ScriptStarter, kind: OperationKind, mode: Mode
) -> None:
    script = await starter.start(kind)
    budget = LongPollQuota(max_long_polls=10 if mode is Mode.STREAM else 0, check_seconds=0.5)
    change_notifier = LocalNotifier(has_publishers=mode is Mode.NOTIFIED)
    async with ProgressHub(temporal_client, budget=budget, change_notifier=change_notifier) as hub:
        before = await moved(temporal_client, script, 3)
        states = hub.watch(script.id)
        first = await next_of(states)
        assert first.position.revision == 3
        assert hub.modes == {mode: 1}
        late = asyncio.create_task(to_the_end(hub.watch(script.id, after=before.position)))

        await reset_workflow(temporal_address, script.id)
        await script.move()
        await script.end()
        received = [first, *await to_the_end(states)]
        later = await late

    for heard in (received, later):
        assert_in_order(heard)
        assert heard[-1].state.status is OperationStatus.COMPLETED
        assert {state.state.status for state in heard[:-1]} <= {OperationStatus.RUNNING}
        assert heard[-1].run_id != before.run_id
    assert received[-1] == later[-1]


async def test_a_cursor_of_the_run_before_leads_to_the_states_of_the_new_run(
    temporal_client: Client, temporal_address: str, starter: ScriptStarter
) -> None:
    script = await starter.start()
    before = await moved(temporal_client, script, 5)
    after = CURSORS.read(script.id, CURSORS.write(script.id, before.position))
    await reset_workflow(temporal_address, script.id)
    async with ProgressHub(temporal_client) as hub:
        states = hub.watch(script.id, after=after)
        assert (await next_of(states)).position.as_tuple() > after.as_tuple()
        await script.end()
        received = await to_the_end(states)
    assert received[-1].state.status is OperationStatus.COMPLETED
    again = CURSORS.read(script.id, CURSORS.write(script.id, received[-1].position))
    assert again == received[-1].position


@pytest.mark.parametrize("ends", ["completed", "terminated", "cancelled"])
async def test_an_operation_that_is_reset_after_its_end_is_followed_and_listed_as_running(
    temporal_client: Client, temporal_address: str, record: Record, ends: str
) -> None:
    async with recording_worker(temporal_client, record) as starter:
        await _reset_after_its_end(temporal_client, temporal_address, record, starter, ends)


async def _reset_after_its_end(
    temporal_client: Client, temporal_address: str, record: Record, starter: ScriptStarter, ends: str
) -> None:
    repair = RecordRepair(temporal_client, record.service)
    script = await starter.start(with_kind=True)

    async def listed() -> Operation:
        found = await record.operation(script.id)
        assert found is not None
        return found

    async def has_run(run_id: str) -> bool:
        """The new run publishes its states; until it has moved, only the repair knows of it."""
        if (await listed()).run_id != run_id:
            await repair.reconcile()
        return (await listed()).run_id == run_id

    await moved(temporal_client, script, 2)
    if ends == "completed":
        await script.end()
    elif ends == "terminated":
        await script.handle.terminate()
    else:
        await script.handle.cancel()
    async with ProgressHub(temporal_client) as hub:
        ended = (await to_the_end(hub.watch(script.id)))[-1]
        async with asyncio.timeout(15):  # the repair keeps a state that the worker wrote after it read Temporal
            await repair.correct(script.id)
            while not (await listed()).is_closed:
                await repair.correct(script.id)

        await reset_workflow(temporal_address, script.id)
        await asyncio.sleep(1.2)  # an end that has just been seen is believed
        if ends == "completed":  # its signals are applied again, the last of which ends it
            again = (await to_the_end(hub.watch(script.id, after=ended.position)))[-1]
            assert again.state.status is OperationStatus.COMPLETED
        else:
            following = hub.watch(script.id, after=ended.position)
            again = await next_of(following)
            assert not again.is_closed
            await until(lambda: has_run(again.run_id))
            assert (await listed()).state.status is OperationStatus.RUNNING
            await script.end()
            assert (await to_the_end(following))[-1].state.status is OperationStatus.COMPLETED
        assert again.position.as_tuple() > ended.position.as_tuple()


async def test_a_list_shows_the_newest_run_of_a_reset_operation_once(
    temporal_client: Client, temporal_address: str, record: Record
) -> None:
    me = viewer()
    async with recording_worker(temporal_client, record) as starter:
        script = await starter.start(user_id=me.user_id, with_kind=True)
        await moved(temporal_client, script, 2)
        await reset_workflow(temporal_address, script.id)
        await script.move()
        await reached(temporal_client, script, 3)  # two signals are applied again
        expected = await current(temporal_client, script)

        async def is_listed() -> bool:
            return [(each.id, each.position) for each in await record.operations(me)] == [
                (script.id, expected.position)
            ]

        await until(is_listed)
        assert [(each.run_id, each.is_closed) for each in await record.operations(me)] == [(expected.run_id, False)]
        await script.end()


async def test_positions_of_history_and_of_descriptions_are_the_same(
    temporal_client: Client, temporal_address: str, starter: ScriptStarter
) -> None:
    script = await starter.start()
    await moved(temporal_client, script, 3)
    for _ in range(2):  # a run that is reset again has the marks of both resets in its history
        await reset_workflow(temporal_address, script.id)
        described = await reached(temporal_client, script, 1)
        async with ProgressHub(temporal_client) as hub:
            states = hub.watch(script.id)
            received = await next_of(states)
            await states.aclose()
        assert (received.position, received.run_id) == (described.position, described.run_id)
        assert received.position.run > 0


async def test_a_run_that_is_tried_again_by_its_retry_policy_is_no_end(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    script = await starter.start(tries=2)
    async with ProgressHub(temporal_client) as hub:
        states = hub.watch(script.id)
        first = await next_of(states)
        await script.fail()
        async with asyncio.timeout(15):
            while (await current(temporal_client, script)).run_id == first.run_id:  # noqa: ASYNC110 - it is elsewhere
                await asyncio.sleep(0.05)
        await script.end()
        received = [first, *await to_the_end(states)]
    assert_in_order(received)
    assert received[-1].state.status is OperationStatus.COMPLETED


async def test_only_the_run_that_ended_last_is_repaired(
    temporal_client: Client, temporal_address: str, starter: ScriptStarter
) -> None:
    script = await starter.start(OperationKind.USER_ONBOARDING, with_kind=True)
    await moved(temporal_client, script, 2)
    await reset_workflow(temporal_address, script.id)
    scheduler = RepairScheduler(temporal_client)
    described = await temporal_client.get_workflow_handle(script.id).describe()
    since = described.start_time - timedelta(minutes=1)
    await _listed(temporal_client, script.id, runs=2)
    assert script.id not in await scheduler.start_repairs(since)

    await temporal_client.get_workflow_handle(script.id).terminate()
    async with asyncio.timeout(15):
        while script.id not in await scheduler.start_repairs(since):  # noqa: ASYNC110 - lists lag behind
            await asyncio.sleep(0.2)
    repair = temporal_client.get_workflow_handle(f"repair-{script.id}-{described.run_id}")
    assert (await repair.describe()).close_time is None
    await repair.terminate()


async def test_nothing_is_repaired_of_a_run_that_was_reset_before_its_repair(
    temporal_client: Client, temporal_address: str, starter: ScriptStarter
) -> None:
    script = await starter.start()
    ended = EndedOperation(operation_id=script.id, run_id=script.handle.first_execution_run_id or "")
    activities = Operations(temporal_client)
    assert await activities.is_superseded(ended) is False
    await script.handle.terminate()
    assert await activities.is_superseded(ended) is False
    await reset_workflow(temporal_address, script.id)
    assert await activities.is_superseded(ended) is True


async def _listed(client: Client, operation_id: str, *, runs: int) -> None:
    async with asyncio.timeout(15):
        while (await client.count_workflows(f"WorkflowId = '{operation_id}'")).count < runs:  # noqa: ASYNC110 - lists lag
            await asyncio.sleep(0.1)
