"""The repair of the record: whatever it missed, and whatever was restored, it shows what Temporal has."""

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
from tests.resolvers.operations.recorded import Record, end_all, recording_worker, until, viewer, with_state
from tests.resolvers.operations.test_start import counted
from tests.resolvers.scripted import TENANT, Script, next_of, scripts
from tests.servers import reset_workflow

_MICROSECONDS = 1_000_000


@pytest.fixture
def repair(temporal_client: Client, record: Record) -> RecordRepair:
    return RecordRepair(temporal_client, record.service)


async def described(client: Client, script: Script) -> Operation:
    return await to_operation(await client.get_workflow_handle(script.id).describe(), client)


async def reached(client: Client, script: Script, revision: int) -> Operation:
    async with asyncio.timeout(15):
        while (operation := await described(client, script)).position.revision < revision:  # noqa: ASYNC110 - a test looks from outside
            await asyncio.sleep(0.05)
    return operation


async def repaired_until(repair: RecordRepair, condition: Callable[[], Awaitable[bool]]) -> None:
    """Rounds of the repair until the record is as it should be: visibility is eventually consistent."""

    async def is_repaired() -> bool:
        await repair.reconcile()
        return await condition()

    await until(is_repaired)


async def age(seconds: float) -> None:
    """Have everything in the record written, confirmed and missed that much earlier."""
    by = round(seconds * _MICROSECONDS)
    await models.OperationRecord.all().update(written_at=F("written_at") - by)
    await models.OperationRecord.filter(confirmed_at__gt=0).update(confirmed_at=F("confirmed_at") - by)
    await models.OperationRecord.filter(missing_since__isnull=False).update(missing_since=F("missing_since") - by)


def unknown_to_temporal() -> OperationRecord:
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


async def test_writes_that_were_lost_are_made_up_for(
    temporal_client: Client, record: Record, repair: RecordRepair
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(with_kind=True)

        async def has(revision: int, status: OperationStatus) -> bool:
            await age(15)
            found = await record.operation(script.id)
            return found is not None and (found.position.revision, found.state.status) == (revision, status)

        await repaired_until(repair, lambda: has(0, OperationStatus.RUNNING))
        await script.move()
        await script.move()
        await repaired_until(repair, lambda: has(2, OperationStatus.RUNNING))
        await script.end()
        await repaired_until(repair, lambda: has(3, OperationStatus.COMPLETED))
        assert await record.operation(script.id) == await described(temporal_client, script)


async def test_a_terminated_operation_becomes_failed(
    temporal_client: Client, record: Record, repair: RecordRepair
) -> None:
    me = viewer()
    async with recording_worker(temporal_client, record) as starter:
        script = await starter.start(user_id=me.user_id, with_kind=True)
        await record.service.write([OperationRecord(operation=await described(temporal_client, script))])
        await script.handle.terminate()

        async def is_failed() -> bool:
            (listed,) = await record.operations(me)
            return listed.state.status is OperationStatus.FAILED

        await repaired_until(repair, is_failed)
    (listed,) = await record.operations(me)
    assert listed.closed_at is not None
    assert listed.state.failure is not None
    assert listed.state.failure.code is OperationErrorCode.DATA_INCONSISTENCY


async def test_who_follows_an_operation_is_notified_of_a_termination(temporal_client: Client, record: Record) -> None:
    """No other process publishes it, and a gateway that follows thousands checks each operation after minutes only."""
    change_notifier = LocalNotifier()
    repair = RecordRepair(temporal_client, record.service, publish=change_notifier.notify_topics)
    budget = LongPollQuota(max_long_polls=0, check_seconds=1000)
    async with (
        recording_worker(temporal_client, record, change_notifier) as starter,
        ProgressHub(temporal_client, budget=budget, change_notifier=change_notifier) as hub,
    ):
        script = await starter.start(with_kind=True)
        await record.service.write([OperationRecord(operation=await described(temporal_client, script))])
        async with aclosing(hub.watch(script.id)) as states:
            assert not (await next_of(states)).is_closed
            end = asyncio.create_task(next_of(states, 30))
            await script.handle.terminate()

            async def is_delivered() -> bool:
                return end.done()

            await repaired_until(repair, is_delivered)
            assert (await end).is_closed


@pytest.mark.parametrize("ends", [True, False], ids=["closed", "running"])
async def test_the_new_run_of_a_reset_operation_is_found_though_nothing_publishes_it(
    temporal_client: Client, temporal_address: str, record: Record, repair: RecordRepair, ends: bool
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(with_kind=True)
        await script.move()
        await reached(temporal_client, script, 1)
        if ends:
            await script.handle.terminate()
        await repair.correct(script.id)
        await record.service.write([OperationRecord(operation=await described(temporal_client, script))])
        before = await record.operation(script.id)
        assert before is not None
        assert before.is_closed is ends

        await reset_workflow(temporal_address, script.id)
        await reached(temporal_client, script, 1)

        async def has_new_run() -> bool:
            found = await record.operation(script.id)
            return found == await described(temporal_client, script)

        await repaired_until(repair, has_new_run)
        after = await record.operation(script.id)
        assert after is not None
        assert not after.is_closed
        assert after.position.as_tuple() > before.position.as_tuple()
        await script.end()


async def test_a_record_that_was_emptied_is_filled_again(
    temporal_client: Client, record: Record, repair: RecordRepair
) -> None:
    me = viewer()
    async with recording_worker(temporal_client, record) as starter:
        running, closed, ended = [await starter.start(user_id=me.user_id, with_kind=True) for _ in range(3)]
        await closed.end()
        await closed.handle.result()
        await ended.handle.terminate()
        expected = {script.id for script in (running, closed, ended)}

        async def is_whole() -> bool:
            statuses = {each.id: each.state.status for each in await record.operations(me)}
            return statuses == {
                running.id: OperationStatus.RUNNING,
                closed.id: OperationStatus.COMPLETED,
                ended.id: OperationStatus.FAILED,
            }

        await repaired_until(repair, is_whole)
        await models.OperationRecord.all().delete()
        await models.OperationStateRow.all().delete()
        await models.RepairProgress.all().delete()
        assert await record.ids(me) == []

        await repaired_until(repair, is_whole)
        assert set(await record.ids(me)) == expected
        await running.end()


async def test_a_record_restored_from_a_backup_is_repaired_from_its_watermark_on(
    temporal_client: Client, record: Record, repair: RecordRepair
) -> None:
    me = viewer()
    async with scripts(temporal_client) as starter:
        before, after = [await starter.start(user_id=me.user_id, with_kind=True) for _ in range(2)]
        backup = OperationRecord(
            operation=await described(temporal_client, before), subject=Subject(label="zoe@example.com")
        )
        for script in (before, after):
            await script.end()
            await script.handle.result()

        async def is_current() -> bool:
            found = {each.id: each.state.status for each in await record.operations(me)}
            return found == {before.id: OperationStatus.COMPLETED, after.id: OperationStatus.COMPLETED}

        await repaired_until(repair, is_current)
        await models.OperationRecord.all().delete()
        await models.OperationStateRow.all().delete()
        await record.service.write([backup])
        yesterday = round((utc_now() - timedelta(days=1)).timestamp() * _MICROSECONDS)
        await models.RepairProgress.all().update(watermark=yesterday)

        await repaired_until(repair, is_current)
    found = await record.service.look_up([before.id])
    assert found.records[0].subject == backup.subject


async def test_an_open_operation_that_temporal_lost_fails_after_the_timeout(
    temporal_client: Client, record: Record
) -> None:
    repair = RecordRepair(temporal_client, record.service, missing_timeout=timedelta(seconds=60))
    lost = unknown_to_temporal()
    await record.service.write([lost])

    await repair.reconcile()  # it has just been written
    await age(30)
    await repair.reconcile()  # Temporal does not know it
    await age(50)
    await repair.reconcile()  # for less than a minute
    found = await record.operation(lost.operation.id)
    assert found == lost.operation

    await age(11)
    await repair.reconcile()
    found = await record.operation(lost.operation.id)
    assert found is not None
    assert found.state.status is OperationStatus.FAILED
    assert found.closed_at is not None
    assert found.state.failure is not None
    assert found.state.failure.code is OperationErrorCode.DATA_INCONSISTENCY


async def test_an_operation_that_temporal_knows_again_is_not_counted_as_missing(
    temporal_client: Client, record: Record, repair: RecordRepair
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(with_kind=True)
        await record.service.write([OperationRecord(operation=await described(temporal_client, script))])
        assert not await record.service.mark_missing(script.id, timedelta(seconds=60))
        await age(90)
        await repair.reconcile()
        row = await models.OperationRecord.get(id=script.id)
        assert (row.missing_since, row.closed_at) == (None, 0)
        assert row.confirmed_at > 0
        await script.end()


@pytest.mark.parametrize("recorded", [OperationStatus.COMPLETED, OperationStatus.RUNNING])
async def test_an_older_state_in_a_restored_temporal_replaces_what_the_record_has(
    temporal_client: Client, record: Record, repair: RecordRepair, recorded: OperationStatus
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(with_kind=True)
        await script.move()
        restored = await reached(temporal_client, script, 1)
        newer = with_state(restored, status=recorded, revision=9)
        await record.service.write([newer])
        await repair.reconcile()
        assert await record.operation(script.id) == newer.operation, "a worker may have published it a moment ago"

        await age(40)

        async def is_restored() -> bool:
            return await record.operation(script.id) == restored

        await repaired_until(repair, is_restored)
        await script.end()


async def test_a_deleted_operation_stays_gone_and_a_new_one_by_the_same_key_is_listed(
    temporal_client: Client, record: Record, repair: RecordRepair
) -> None:
    me = viewer()
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=me.user_id, with_kind=True)
        operation = await described(temporal_client, script)
        await record.service.write([OperationRecord(operation=operation)])
        await record.service.delete(script.id)
        await script.move()
        await reached(temporal_client, script, 1)
        await age(90)
        for _ in range(3):
            await repair.reconcile()
            await asyncio.sleep(0.3)
        await repair.correct(script.id)
        assert await record.ids(me) == []
        assert (await record.service.look_up([script.id])).deleted == (script.id,)

        later = with_state(operation, started_at=utc_now(), revision=0)
        await record.service.write([later])
        assert await record.operations(me) == [later.operation]
        assert (await record.service.look_up([script.id])).deleted == ()
        await script.end()


async def test_a_round_costs_one_request_to_visibility_and_describes_nothing_that_agrees(
    temporal_client: Client, record: Record
) -> None:
    client, calls = counted(temporal_client)
    repair = RecordRepair(client, record.service)
    me = viewer()
    async with recording_worker(temporal_client, record) as starter:
        running = [await starter.start(user_id=me.user_id, with_kind=True) for _ in range(20)]

        async def are_listed() -> bool:
            return len(await record.ids(me)) == len(running)

        await repaired_until(repair, are_listed)
        await age(90)
        calls.counts.clear()
        await repair.reconcile()
        ours = {script.id for script in running}
        confirmed = await models.OperationRecord.filter(id__in=ours, confirmed_at__gt=0).count()
        assert confirmed == len(running)
        assert calls.counts["list"] == 1
        await end_all(*running)


async def test_processes_that_repair_together_make_the_rounds_of_one(temporal_client: Client, record: Record) -> None:
    client, calls = counted(temporal_client)
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
    assert 2 <= calls.counts["list"] <= 5, "a round a second, not four"


async def test_a_failing_round_is_repeated_by_the_next_one_and_moves_no_watermark(
    temporal_client: Client, record: Record
) -> None:
    client, calls = counted(temporal_client)
    repair = RecordRepair(client, record.service, deadline=timedelta(seconds=0.6))
    calls.is_unavailable = True
    async with supervised(repair.run, name="repair"):
        await until(lambda: _at_least(calls.counts, 2))
        assert not await models.RepairProgress.filter(watermark__gt=0).exists()
        calls.is_unavailable = False
        await until(lambda: models.RepairProgress.filter(watermark__gt=0).exists())


async def _at_least(counts: dict[str, int], rounds: int) -> bool:
    return counts.get("list", 0) >= rounds


async def test_an_operation_that_cannot_be_read_keeps_nothing_else_from_being_repaired(
    temporal_address: str, record: Record
) -> None:
    encrypted = await connect(address=temporal_address, namespace=None, keys=KeyRing({"lost": b"k" * 32}))
    plain = await connect(address=temporal_address, namespace=None, keys=None)
    repair, me = RecordRepair(plain, record.service), viewer()
    async with scripts(encrypted) as unreadable, scripts(plain) as readable:
        first, second = [await each.start(user_id=me.user_id, with_kind=True) for each in (unreadable, readable)]
        operation = await described(encrypted, first)
        await record.service.write([OperationRecord(operation=operation)])
        await age(90)

        async def are_listed() -> bool:
            return set(await record.ids(me)) == {first.id, second.id}

        await repaired_until(repair, are_listed)
        for _ in range(2):
            await age(90)
            await repair.reconcile()
        assert await record.operation(first.id) == operation
        for script in (first, second):
            await script.end()
