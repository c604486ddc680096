"""Resets of workflows: another run continues the operation under the same workflow id."""

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
from resolvers.following.watcher import DeliveryMode
from resolvers.operations.cursors import Cursors
from tests.resolvers.operations.record_of_operations import Record, recording_worker, until, viewer
from tests.resolvers.scripted import Script, ScriptStarter, next_of
from tests.servers import reset_workflow
from worker.repair_scheduler import RepairScheduler

CURSORS = Cursors(SecretKeys(b"secret"))


async def current(client: Client, script: Script) -> Operation:
    """Return the current state of the operation from Temporal."""
    return await to_operation(await client.get_workflow_handle(script.id).describe(), client)


async def wait_for_revision(client: Client, script: Script, revision: int) -> Operation:
    """Return the operation once it has reached this revision."""
    while True:
        operation = await current(client, script)
        if operation.position.revision >= revision:
            return operation
        await asyncio.sleep(0.02)


async def move(client: Client, script: Script, times: int) -> Operation:
    """Move the operation a number of times and return its state."""
    for _ in range(times):
        await script.move()
    return await wait_for_revision(client, script, times)


async def collect(states: AsyncGenerator[Operation]) -> list[Operation]:
    """Return all states of the stream."""
    async with asyncio.timeout(20), aclosing(states):
        return [state async for state in states]


def assert_in_order(states: list[Operation]) -> None:
    """Assert that positions increase strictly and only the last state is closed."""
    for before, after in pairwise(states):
        assert before.position.as_tuple() < after.position.as_tuple()
        assert not before.is_closed


@pytest.mark.parametrize("kind", OperationKind)
@pytest.mark.parametrize("mode", DeliveryMode)
async def test_delivers_the_new_run_of_a_reset_operation_until_its_end(
    temporal_client: Client, temporal_address: str, starter: ScriptStarter, kind: OperationKind, mode: DeliveryMode
) -> None:
    script = await starter.start(kind)
    long_poll_quota = LongPollQuota(max_long_polls=10 if mode is DeliveryMode.STREAM else 0, check_interval_seconds=0.5)
    change_notifier = LocalNotifier(has_publishers=mode is DeliveryMode.NOTIFIED)
    async with ProgressHub(temporal_client, long_poll_quota=long_poll_quota, change_notifier=change_notifier) as hub:
        before = await move(temporal_client, script, 3)
        states = hub.watch(script.id)
        first = await next_of(states)
        assert first.position.revision == 3
        assert hub.watchers_by_mode == {mode: 1}
        late = asyncio.create_task(collect(hub.watch(script.id, after=before.position)))

        await reset_workflow(temporal_address, script.id)
        await script.move()
        await script.end()
        received = [first, *await collect(states)]
        later = await late

    for delivered in (received, later):
        assert_in_order(delivered)
        assert delivered[-1].state.status is OperationStatus.COMPLETED
        assert {state.state.status for state in delivered[:-1]} <= {OperationStatus.RUNNING}
        assert delivered[-1].run_id != before.run_id
    assert received[-1] == later[-1]


async def test_cursor_of_the_previous_run_resumes_with_the_new_run(
    temporal_client: Client, temporal_address: str, starter: ScriptStarter
) -> None:
    script = await starter.start()
    before = await move(temporal_client, script, 5)
    after = CURSORS.decode(script.id, CURSORS.encode(script.id, before.position))
    await reset_workflow(temporal_address, script.id)
    async with ProgressHub(temporal_client) as hub:
        states = hub.watch(script.id, after=after)
        assert (await next_of(states)).position.as_tuple() > after.as_tuple()
        await script.end()
        received = await collect(states)
    assert received[-1].state.status is OperationStatus.COMPLETED
    resumed = CURSORS.decode(script.id, CURSORS.encode(script.id, received[-1].position))
    assert resumed == received[-1].position


@pytest.mark.parametrize("ending", ["completed", "terminated", "cancelled"])
async def test_operation_reset_after_its_end_is_followed_and_listed_as_running(
    temporal_client: Client, temporal_address: str, record: Record, ending: str
) -> None:
    async with recording_worker(temporal_client, record) as starter:
        await _check_reset_after_end(temporal_client, temporal_address, record, starter, ending)


async def _check_reset_after_end(
    temporal_client: Client, temporal_address: str, record: Record, starter: ScriptStarter, ending: str
) -> None:
    repair = RecordRepair(temporal_client, record.service)
    script = await starter.start(with_kind=True)

    async def listed() -> Operation:
        found = await record.operation(script.id)
        assert found is not None
        return found

    async def has_run(run_id: str) -> bool:
        """The new run publishes its states; until it has moved, only the repair finds it."""
        if (await listed()).run_id != run_id:
            await repair.reconcile()
        return (await listed()).run_id == run_id

    await move(temporal_client, script, 2)
    if ending == "completed":
        await script.end()
    elif ending == "terminated":
        await script.handle.terminate()
    else:
        await script.handle.cancel()
    async with ProgressHub(temporal_client) as hub:
        ended = (await collect(hub.watch(script.id)))[-1]
        async with asyncio.timeout(15):  # the repair keeps a state that the worker wrote later than the repair's read
            await repair.correct(script.id)
            while not (await listed()).is_closed:
                await repair.correct(script.id)

        await reset_workflow(temporal_address, script.id)
        await asyncio.sleep(1.2)  # longer than a close is trusted without a check
        if ending == "completed":  # the reset applies the signals again, and the last one ends the run
            resumed = (await collect(hub.watch(script.id, after=ended.position)))[-1]
            assert resumed.state.status is OperationStatus.COMPLETED
        else:
            following = hub.watch(script.id, after=ended.position)
            resumed = await next_of(following)
            assert not resumed.is_closed
            await until(lambda: has_run(resumed.run_id))
            assert (await listed()).state.status is OperationStatus.RUNNING
            await script.end()
            assert (await collect(following))[-1].state.status is OperationStatus.COMPLETED
        assert resumed.position.as_tuple() > ended.position.as_tuple()


async def test_list_contains_only_the_newest_run_of_a_reset_operation(
    temporal_client: Client, temporal_address: str, record: Record
) -> None:
    user = viewer()
    async with recording_worker(temporal_client, record) as starter:
        script = await starter.start(user_id=user.user_id, with_kind=True)
        await move(temporal_client, script, 2)
        await reset_workflow(temporal_address, script.id)
        await script.move()
        await wait_for_revision(temporal_client, script, 3)  # the reset applies two signals again
        expected = await current(temporal_client, script)

        async def is_listed() -> bool:
            return [(each.id, each.position) for each in await record.operations(user)] == [
                (script.id, expected.position)
            ]

        await until(is_listed)
        assert [(each.run_id, each.is_closed) for each in await record.operations(user)] == [(expected.run_id, False)]
        await script.end()


async def test_history_and_description_yield_the_same_position(
    temporal_client: Client, temporal_address: str, starter: ScriptStarter
) -> None:
    script = await starter.start()
    await move(temporal_client, script, 3)
    for _ in range(2):  # after a second reset the history contains the events of both
        await reset_workflow(temporal_address, script.id)
        described = await wait_for_revision(temporal_client, script, 1)
        async with ProgressHub(temporal_client) as hub:
            states = hub.watch(script.id)
            received = await next_of(states)
            await states.aclose()
        assert (received.position, received.run_id) == (described.position, described.run_id)
        assert received.position.run > 0


async def test_run_that_the_retry_policy_repeats_is_not_the_end(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    script = await starter.start(max_attempts=2)
    async with ProgressHub(temporal_client) as hub:
        states = hub.watch(script.id)
        first = await next_of(states)
        await script.fail()
        async with asyncio.timeout(15):
            while (await current(temporal_client, script)).run_id == first.run_id:  # noqa: ASYNC110 - Temporal sends no event
                await asyncio.sleep(0.05)
        await script.end()
        received = [first, *await collect(states)]
    assert_in_order(received)
    assert received[-1].state.status is OperationStatus.COMPLETED


async def test_repairs_only_the_newest_run(
    temporal_client: Client, temporal_address: str, starter: ScriptStarter
) -> None:
    script = await starter.start(OperationKind.USER_ONBOARDING, with_kind=True)
    await move(temporal_client, script, 2)
    await reset_workflow(temporal_address, script.id)
    scheduler = RepairScheduler(temporal_client)
    described = await temporal_client.get_workflow_handle(script.id).describe()
    since = described.start_time - timedelta(minutes=1)
    await _wait_until_listed(temporal_client, script.id, runs=2)
    assert script.id not in await scheduler.start_repairs(since)

    await temporal_client.get_workflow_handle(script.id).terminate()
    async with asyncio.timeout(15):
        while script.id not in await scheduler.start_repairs(since):  # noqa: ASYNC110 - visibility lags
            await asyncio.sleep(0.2)
    repair = temporal_client.get_workflow_handle(f"repair-{script.id}-{described.run_id}")
    assert (await repair.describe()).close_time is None
    await repair.terminate()


async def test_run_that_was_reset_before_its_repair_is_superseded(
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


async def _wait_until_listed(client: Client, operation_id: str, *, runs: int) -> None:
    """Wait until visibility lists this number of runs."""
    async with asyncio.timeout(15):
        while (await client.count_workflows(f"WorkflowId = '{operation_id}'")).count < runs:  # noqa: ASYNC110 - visibility lags
            await asyncio.sleep(0.1)
