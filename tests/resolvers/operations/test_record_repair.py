"""Repair of the record of operations from Temporal: after lost writes, backups, resets and deletions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta

import pytest
from temporalio.client import Client
from tortoise.expressions import F

from activities.operations import models
from activities.operations.record_repair import RecordRepair
from contracts.base import utc_now
from contracts.errors import OperationErrorCode
from contracts.operation_records import OperationRecord, Subject
from contracts.operations import Operation, OperationKind, OperationState, OperationStatus, Position, operation_id
from infrastructure.change_notifications import LocalNotifier
from infrastructure.tasks import supervised
from infrastructure.temporal.codec import KeyRing
from infrastructure.temporal.connection import connect
from infrastructure.temporal.operation_history import to_operation
from resolvers.following.hub import ProgressHub
from resolvers.following.long_poll_quota import LongPollQuota
from tests.resolvers.operations.record_of_operations import Record, end_all, recording_worker, until, viewer, with_state
from tests.resolvers.operations.test_start import with_counted_calls
from tests.resolvers.scripted import TENANT, Script, next_of, scripts
from tests.servers import reset_workflow

_MICROSECONDS = 1_000_000


@pytest.fixture
def repair(temporal_client: Client, record: Record) -> RecordRepair:
    """The repair of the record."""
    return RecordRepair(temporal_client, record.service)


async def describe(client: Client, script: Script) -> Operation:
    """Return the current state of the operation from Temporal."""
    return await to_operation(await client.get_workflow_handle(script.id).describe(), client)


async def wait_for_revision(client: Client, script: Script, revision: int) -> Operation:
    """Return the operation once it has reached this revision."""
    async with asyncio.timeout(15):
        while (operation := await describe(client, script)).position.revision < revision:  # noqa: ASYNC110 - Temporal sends no event
            await asyncio.sleep(0.05)
    return operation


async def repair_until(repair: RecordRepair, condition: Callable[[], Awaitable[bool]]) -> None:
    """Run rounds of the repair until the condition holds, because visibility is eventually consistent."""

    async def is_repaired() -> bool:
        await repair.reconcile()
        return await condition()

    await until(is_repaired)


async def make_older(seconds: float) -> None:
    """Move all times of the record into the past by these seconds."""
    by = round(seconds * _MICROSECONDS)
    await models.OperationRecord.all().update(written_at=F("written_at") - by)
    await models.OperationRecord.filter(confirmed_at__gt=0).update(confirmed_at=F("confirmed_at") - by)
    await models.OperationRecord.filter(missing_since__isnull=False).update(missing_since=F("missing_since") - by)


def record_without_workflow() -> OperationRecord:
    """Return a record of a running operation that Temporal does not have."""
    kind = OperationKind.USER_ONBOARDING
    return OperationRecord(
        operation=Operation(
            id=operation_id(b"", kind, tenant_id="", user_id="", key=None),
            kind=kind,
            user_id="usr_owner",
            tenant_ids=(TENANT,),
            state=OperationState.first(kind, utc_now(), started_by="usr_owner"),
            position=Position(revision=0),
        )
    )


async def test_repairs_lost_writes(temporal_client: Client, record: Record, repair: RecordRepair) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(with_kind=True)

        async def has(revision: int, status: OperationStatus) -> bool:
            await make_older(15)
            found = await record.operation(script.id)
            return found is not None and (found.position.revision, found.state.status) == (revision, status)

        await repair_until(repair, lambda: has(0, OperationStatus.RUNNING))
        await script.move()
        await script.move()
        await repair_until(repair, lambda: has(2, OperationStatus.RUNNING))
        await script.end()
        await repair_until(repair, lambda: has(3, OperationStatus.COMPLETED))
        assert await record.operation(script.id) == await describe(temporal_client, script)


async def test_records_a_terminated_operation_as_failed(
    temporal_client: Client, record: Record, repair: RecordRepair
) -> None:
    user = viewer()
    async with recording_worker(temporal_client, record) as starter:
        script = await starter.start(user_id=user.user_id, with_kind=True)
        await record.service.write([OperationRecord(operation=await describe(temporal_client, script))])
        await script.handle.terminate()

        async def is_failed() -> bool:
            (listed,) = await record.operations(user)
            return listed.state.status is OperationStatus.FAILED

        await repair_until(repair, is_failed)
    (listed,) = await record.operations(user)
    assert listed.closed_at is not None
    assert listed.state.failure is not None
    assert listed.state.failure.code is OperationErrorCode.DATA_INCONSISTENCY


async def test_notifies_watchers_of_a_termination(temporal_client: Client, record: Record) -> None:
    """Nothing else publishes a termination, and a gateway with thousands of watchers checks each one after minutes."""
    change_notifier = LocalNotifier()
    repair = RecordRepair(temporal_client, record.service, publish=change_notifier.notify_topics)
    long_poll_quota = LongPollQuota(max_long_polls=0, check_interval_seconds=1000)
    async with (
        recording_worker(temporal_client, record, change_notifier) as starter,
        ProgressHub(temporal_client, long_poll_quota=long_poll_quota, change_notifier=change_notifier) as hub,
    ):
        script = await starter.start(with_kind=True)
        await record.service.write([OperationRecord(operation=await describe(temporal_client, script))])
        async with aclosing(hub.watch(script.id)) as states:
            assert not (await next_of(states)).is_closed
            end = asyncio.create_task(next_of(states, 30))
            await script.handle.terminate()

            async def is_delivered() -> bool:
                return end.done()

            await repair_until(repair, is_delivered)
            assert (await end).is_closed


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "running"])
async def test_finds_the_new_run_of_a_reset_operation_that_nothing_published(
    temporal_client: Client, temporal_address: str, record: Record, repair: RecordRepair, is_closed: bool
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(with_kind=True)
        await script.move()
        await wait_for_revision(temporal_client, script, 1)
        if is_closed:
            await script.handle.terminate()
        await repair.correct(script.id)
        await record.service.write([OperationRecord(operation=await describe(temporal_client, script))])
        before = await record.operation(script.id)
        assert before is not None
        assert before.is_closed is is_closed

        await reset_workflow(temporal_address, script.id)
        await wait_for_revision(temporal_client, script, 1)

        async def has_new_run() -> bool:
            found = await record.operation(script.id)
            return found == await describe(temporal_client, script)

        await repair_until(repair, has_new_run)
        after = await record.operation(script.id)
        assert after is not None
        assert not after.is_closed
        assert after.position.as_tuple() > before.position.as_tuple()
        await script.end()


async def test_refills_an_emptied_record(temporal_client: Client, record: Record, repair: RecordRepair) -> None:
    user = viewer()
    async with recording_worker(temporal_client, record) as starter:
        running, closed, ended = [await starter.start(user_id=user.user_id, with_kind=True) for _ in range(3)]
        await closed.end()
        await closed.handle.result()
        await ended.handle.terminate()
        expected = {script.id for script in (running, closed, ended)}

        async def is_whole() -> bool:
            statuses = {each.id: each.state.status for each in await record.operations(user)}
            return statuses == {
                running.id: OperationStatus.RUNNING,
                closed.id: OperationStatus.COMPLETED,
                ended.id: OperationStatus.FAILED,
            }

        await repair_until(repair, is_whole)
        await models.OperationRecord.all().delete()
        await models.OperationStateRow.all().delete()
        await models.RepairProgress.all().delete()
        assert await record.ids(user) == []

        await repair_until(repair, is_whole)
        assert set(await record.ids(user)) == expected
        await running.end()


async def test_repairs_a_record_restored_from_a_backup_from_its_watermark(
    temporal_client: Client, record: Record, repair: RecordRepair
) -> None:
    user = viewer()
    async with scripts(temporal_client) as starter:
        before, after = [await starter.start(user_id=user.user_id, with_kind=True) for _ in range(2)]
        backup = OperationRecord(
            operation=await describe(temporal_client, before), subject=Subject(label="zoe@example.com")
        )
        for script in (before, after):
            await script.end()
            await script.handle.result()

        async def is_current() -> bool:
            found = {each.id: each.state.status for each in await record.operations(user)}
            return found == {before.id: OperationStatus.COMPLETED, after.id: OperationStatus.COMPLETED}

        await repair_until(repair, is_current)
        await models.OperationRecord.all().delete()
        await models.OperationStateRow.all().delete()
        await record.service.write([backup])
        yesterday = round((utc_now() - timedelta(days=1)).timestamp() * _MICROSECONDS)
        await models.RepairProgress.all().update(watermark=yesterday)

        await repair_until(repair, is_current)
    found = await record.service.look_up([before.id])
    assert found.records[0].subject == backup.subject


async def test_open_operation_that_temporal_lost_fails_after_the_timeout(
    temporal_client: Client, record: Record
) -> None:
    repair = RecordRepair(temporal_client, record.service, missing_timeout=timedelta(seconds=60))
    lost = record_without_workflow()
    await record.service.write([lost])

    await repair.reconcile()  # the record has just been written
    await make_older(30)
    await repair.reconcile()  # Temporal does not have the operation
    await make_older(50)
    await repair.reconcile()  # missing for less than a minute
    found = await record.operation(lost.operation.id)
    assert found == lost.operation

    await make_older(11)
    await repair.reconcile()
    found = await record.operation(lost.operation.id)
    assert found is not None
    assert found.state.status is OperationStatus.FAILED
    assert found.closed_at is not None
    assert found.state.failure is not None
    assert found.state.failure.code is OperationErrorCode.DATA_INCONSISTENCY


async def test_operation_that_temporal_has_again_is_not_missing(
    temporal_client: Client, record: Record, repair: RecordRepair
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(with_kind=True)
        await record.service.write([OperationRecord(operation=await describe(temporal_client, script))])
        assert not await record.service.mark_missing(script.id, timedelta(seconds=60))
        await make_older(90)
        await repair.reconcile()
        row = await models.OperationRecord.get(id=script.id)
        assert (row.missing_since, row.closed_at) == (None, 0)
        assert row.confirmed_at > 0
        await script.end()


@pytest.mark.parametrize("recorded", [OperationStatus.COMPLETED, OperationStatus.RUNNING])
async def test_older_state_of_a_restored_temporal_replaces_the_recorded_state(
    temporal_client: Client, record: Record, repair: RecordRepair, recorded: OperationStatus
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(with_kind=True)
        await script.move()
        restored = await wait_for_revision(temporal_client, script, 1)
        newer = with_state(restored, status=recorded, revision=9)
        await record.service.write([newer])
        await repair.reconcile()
        assert await record.operation(script.id) == newer.operation, (
            "a worker may have just published the recorded state"
        )

        await make_older(40)

        async def is_restored() -> bool:
            return await record.operation(script.id) == restored

        await repair_until(repair, is_restored)
        await script.end()


async def test_repair_does_not_restore_a_deleted_operation(
    temporal_client: Client, record: Record, repair: RecordRepair
) -> None:
    user = viewer()
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=user.user_id, with_kind=True)
        operation = await describe(temporal_client, script)
        await record.service.write([OperationRecord(operation=operation)])
        await record.service.delete(script.id)
        await script.move()
        await wait_for_revision(temporal_client, script, 1)
        await make_older(90)
        for _ in range(3):
            await repair.reconcile()
            await asyncio.sleep(0.3)
        await repair.correct(script.id)
        assert await record.ids(user) == []
        assert (await record.service.look_up([script.id])).deleted == (script.id,)

        later = with_state(operation, started_at=utc_now(), revision=0)
        await record.service.write([later])
        assert await record.operations(user) == [later.operation]
        assert (await record.service.look_up([script.id])).deleted == ()
        await script.end()


async def test_round_makes_one_visibility_request_and_describes_no_matching_record(
    temporal_client: Client, record: Record
) -> None:
    client, calls = with_counted_calls(temporal_client)
    repair = RecordRepair(client, record.service)
    user = viewer()
    async with recording_worker(temporal_client, record) as starter:
        running = [await starter.start(user_id=user.user_id, with_kind=True) for _ in range(20)]

        async def are_listed() -> bool:
            return len(await record.ids(user)) == len(running)

        await repair_until(repair, are_listed)
        await make_older(90)
        calls.counts.clear()
        await repair.reconcile()
        ids = {script.id for script in running}
        confirmed = await models.OperationRecord.filter(id__in=ids, confirmed_at__gt=0).count()
        assert confirmed == len(running)
        assert calls.counts["list"] == 1
        await end_all(*running)


async def test_concurrent_processes_make_no_more_rounds_than_one(temporal_client: Client, record: Record) -> None:
    client, calls = with_counted_calls(temporal_client)
    repairs = [RecordRepair(client, record.service, deadline=timedelta(seconds=3)) for _ in range(4)]
    await repairs[0].reconcile()
    calls.counts.clear()
    async with (
        supervised(repairs[0].run, name="a"),
        supervised(repairs[1].run, name="b"),
        supervised(repairs[2].run, name="c"),
        supervised(repairs[3].run, name="d"),
    ):
        await asyncio.sleep(4.5)
    assert 2 <= calls.counts["list"] <= 5, "one round per second, not four"


async def test_failed_round_is_repeated_and_does_not_advance_the_watermark(
    temporal_client: Client, record: Record
) -> None:
    client, calls = with_counted_calls(temporal_client)
    repair = RecordRepair(client, record.service, deadline=timedelta(seconds=0.6))
    calls.is_unavailable = True
    async with supervised(repair.run, name="repair"):
        await until(lambda: _at_least(calls.counts, 2))
        assert not await models.RepairProgress.filter(watermark__gt=0).exists()
        calls.is_unavailable = False
        await until(lambda: models.RepairProgress.filter(watermark__gt=0).exists())


async def _at_least(counts: dict[str, int], rounds: int) -> bool:
    return counts.get("list", 0) >= rounds


async def test_unreadable_operation_does_not_stop_the_repair_of_others(temporal_address: str, record: Record) -> None:
    encrypted = await connect(address=temporal_address, namespace=None, keys=KeyRing({"lost": b"k" * 32}))
    plain = await connect(address=temporal_address, namespace=None, keys=None)
    repair, user = RecordRepair(plain, record.service), viewer()
    async with scripts(encrypted) as unreadable, scripts(plain) as readable:
        first, second = [await each.start(user_id=user.user_id, with_kind=True) for each in (unreadable, readable)]
        operation = await describe(encrypted, first)
        await record.service.write([OperationRecord(operation=operation)])
        await make_older(90)

        async def are_listed() -> bool:
            return set(await record.ids(user)) == {first.id, second.id}

        await repair_until(repair, are_listed)
        for _ in range(2):
            await make_older(90)
            await repair.reconcile()
        assert await record.operation(first.id) == operation
        for script in (first, second):
            await script.end()
