"""The repair scheduler starts one repair for each operation that closed without its compensations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import pytest
from structlog.testing import capture_logs
from temporalio import workflow
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.operations.activities import Operations
from contracts.base import utc_now
from contracts.compensation_repair import repair_id
from contracts.errors import OperationErrorCode
from contracts.operations import (
    ATTRIBUTE_KIND,
    MEMO_STATE,
    OperationFailure,
    OperationKind,
    OperationState,
    OperationStatus,
    operation_id,
)
from contracts.task_queues import TaskQueue
from infrastructure.tasks import BackgroundTasks
from worker.registry import activities_of
from worker.repair_scheduler import RepairScheduler
from worker.sandbox import workflow_runner
from workflows.repair_operation import RepairOperation

KIND = SearchAttributeKey.for_keyword(ATTRIBUTE_KIND)


@workflow.defn
class EndingWorkflow:
    """Writes a failure with ``compensated``, unless that is None, and ends as the argument says."""

    @workflow.run
    async def run(self, compensated: bool | None, end: str) -> None:
        if compensated is not None:
            failure = OperationFailure(
                code=OperationErrorCode.ACTIVITY_FAILED,
                message="It failed.",
                step=None,
                retryable=True,
                compensated=compensated,
            )
            state = OperationState.model_validate(workflow.memo_value(MEMO_STATE, type_hint=dict))
            state = state.model_copy(update={"failure": failure, "status": OperationStatus.FAILED})
            workflow.upsert_memo({MEMO_STATE: state.to_memo()})
        if end == "complete":
            return
        if end == "fail":
            raise ApplicationError("It failed.", non_retryable=True)
        await workflow.sleep(3600)


class ClosedOperations:
    """Starts operations on its own queue and lets each end in a given way."""

    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue
        self._kind_attribute = SearchAttributePair(KIND, OperationKind.USER_ONBOARDING.value)

    async def start(
        self, end: str, *, compensated: bool | None = None, is_operation: bool = True
    ) -> WorkflowHandle[object, object]:
        kind = OperationKind.USER_ONBOARDING
        handle: WorkflowHandle[object, object] = await self._client.start_workflow(
            "EndingWorkflow",
            args=[compensated, end],
            id=operation_id(b"", kind, tenant_id="", user_id="", key=None),
            task_queue=self._queue,
            memo={MEMO_STATE: OperationState.first(kind, utc_now()).to_memo()},
            search_attributes=TypedSearchAttributes([self._kind_attribute] if is_operation else []),
            run_timeout=timedelta(seconds=2) if end == "time out" else None,
        )
        async with asyncio.timeout(20):
            while (await handle.describe()).history_length < 4:  # noqa: ASYNC110 - until its first workflow task completed
                await asyncio.sleep(0.05)
            if end == "cancel":
                await handle.cancel()
            if end == "terminate":
                await handle.terminate()
            while (status := (await handle.describe()).status) is WorkflowExecutionStatus.RUNNING:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert status is not None
            closed = f"WorkflowId = '{handle.id}' AND ExecutionStatus != 'Running'"
            while (await self._client.count_workflows(closed)).count == 0:  # noqa: ASYNC110 - lists lag behind
                await asyncio.sleep(0.05)
        return handle


@pytest.fixture
async def operations(temporal_client: Client) -> AsyncIterator[ClosedOperations]:
    queue = f"ending-{uuid4().hex}"
    async with Worker(
        temporal_client, task_queue=queue, workflows=[EndingWorkflow], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        yield ClosedOperations(temporal_client, queue)


@pytest.fixture
def since() -> datetime:
    """A time before the operations of the test."""
    return utc_now() - timedelta(minutes=1)


def repair_of(client: Client, operation: WorkflowHandle[object, object]) -> WorkflowHandle[object, object]:
    return client.get_workflow_handle(repair_id(operation.id, operation.first_execution_run_id or ""))


@pytest.mark.parametrize(
    ("end", "compensated", "is_repaired"),
    [
        ("terminate", None, True),
        ("time out", None, True),
        ("fail", None, True),
        ("fail", False, True),
        ("cancel", None, True),
        ("cancel", False, True),
        ("fail", True, False),
        ("cancel", True, False),
        ("complete", None, False),
    ],
)
async def test_repairs_operations_that_closed_without_compensation(
    temporal_client: Client,
    operations: ClosedOperations,
    since: datetime,
    end: str,
    compensated: bool | None,
    is_repaired: bool,
) -> None:
    operation = await operations.start(end, compensated=compensated)

    assert (operation.id in await RepairScheduler(temporal_client).start_repairs(since)) is is_repaired
    if is_repaired:
        await repair_of(temporal_client, operation).terminate()


async def test_ignores_other_workflows_and_operations_that_closed_earlier(
    temporal_client: Client, operations: ClosedOperations
) -> None:
    other = await operations.start("terminate", is_operation=False)
    earlier = await operations.start("terminate")
    closed = (await earlier.describe()).close_time
    assert closed is not None

    found = await RepairScheduler(temporal_client).start_repairs(closed + timedelta(milliseconds=1))

    assert {other.id, earlier.id}.isdisjoint(found)


async def test_simultaneous_scans_start_one_repair(
    temporal_client: Client, operations: ClosedOperations, since: datetime
) -> None:
    operation = await operations.start("terminate")

    found = await asyncio.gather(*(RepairScheduler(temporal_client).start_repairs(since) for _ in range(5)))

    assert sum(each.count(operation.id) for each in found) == 1
    assert operation.id not in await RepairScheduler(temporal_client).start_repairs(since), "its repair is running"
    await repair_of(temporal_client, operation).terminate()


async def test_restarts_a_failed_repair_but_not_a_completed_one(
    temporal_client: Client, operations: ClosedOperations, since: datetime
) -> None:
    operation, scheduler = await operations.start("terminate"), RepairScheduler(temporal_client)
    assert operation.id in await scheduler.start_repairs(since)
    await repair_of(temporal_client, operation).terminate()

    assert operation.id in await scheduler.start_repairs(since)

    async with Worker(
        temporal_client,
        task_queue=TaskQueue.OPERATIONS,
        workflows=[RepairOperation],
        activities=activities_of(Operations(temporal_client)),
        workflow_runner=workflow_runner(),
    ):
        await repair_of(temporal_client, operation).result()
    assert operation.id not in await scheduler.start_repairs(since)


class RecordingScheduler(RepairScheduler):
    """Records the time and the start of the period of each scan; the scans with the given numbers fail."""

    def __init__(self, client: Client, deadline: timedelta, failing: set[int]) -> None:
        super().__init__(client, deadline)
        self._failing = failing
        self.scans: list[tuple[datetime, datetime]] = []
        self.has_enough = asyncio.Event()

    async def start_repairs(self, since: datetime) -> list[str]:
        self.scans.append((utc_now(), since))
        if len(self.scans) == 6:
            self.has_enough.set()
        if len(self.scans) in self._failing:
            raise ConnectionError("Temporal is unavailable")
        return []


async def record_scans(client: Client, *, failing: set[int]) -> list[tuple[datetime, datetime]]:
    scheduler = RecordingScheduler(client, timedelta(seconds=0.9), failing)
    with capture_logs() as logs:
        async with BackgroundTasks() as tasks, asyncio.timeout(10):
            tasks.start(scheduler.run(), name="scan")
            await scheduler.has_enough.wait()
    assert [log["event"] for log in logs] == ["repair_scan_failed"] * len(failing)
    return scheduler.scans[:6]


SOON = timedelta(seconds=0.25)


async def test_first_scan_covers_a_week_and_later_scans_overlap_by_five_minutes(
    temporal_client: Client,
) -> None:
    scans = await record_scans(temporal_client, failing=set())

    (first, since), *_ = scans
    assert timedelta(0) <= first - since - timedelta(days=7) < SOON
    for (before, _), (_, since) in pairwise(scans):
        assert timedelta(0) <= before - since - timedelta(minutes=5) < SOON


async def test_scans_three_times_within_the_deadline(temporal_client: Client) -> None:
    scans = await record_scans(temporal_client, failing=set())

    assert scans[3][0] - scans[0][0] < timedelta(seconds=1.8)
    assert scans[5][0] - scans[0][0] >= timedelta(seconds=1.5)


async def test_a_scan_after_a_failed_one_covers_the_same_period(temporal_client: Client) -> None:
    scans = await record_scans(temporal_client, failing={1, 2, 4})

    sinces = [since for _, since in scans]
    assert sinces[0] == sinces[1] == sinces[2]
    assert sinces[3] > sinces[2]
    assert sinces[4] == sinces[3]
    assert sinces[5] > sinces[4]
