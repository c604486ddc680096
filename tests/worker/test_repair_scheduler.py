"""The reconciler finds each operation that ended without undoing what it did, soon, and has it repaired once."""

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
from worker.repair_scheduler import Reconciler
from worker.sandbox import workflow_runner
from workflows.repair_operation import RepairOperation

KIND = SearchAttributeKey.for_keyword(ATTRIBUTE_KIND)


@workflow.defn
class Ending:
    """Writes whether it was compensated, unless that is None, and ends, or runs until it is terminated."""

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


class Ended:
    """Starts operations on a queue of its own and has them end as a test says."""

    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue
        self._is_ours = SearchAttributePair(KIND, OperationKind.USER_ONBOARDING.value)

    async def ended(
        self, end: str, *, compensated: bool | None = None, is_operation: bool = True
    ) -> WorkflowHandle[object, object]:
        kind = OperationKind.USER_ONBOARDING
        handle: WorkflowHandle[object, object] = await self._client.start_workflow(
            "Ending",
            args=[compensated, end],
            id=operation_id(b"", kind, tenant_id="", user_id="", key=None),
            task_queue=self._queue,
            memo={MEMO_STATE: OperationState.first(kind, utc_now()).to_memo()},
            search_attributes=TypedSearchAttributes([self._is_ours] if is_operation else []),
            run_timeout=timedelta(seconds=2) if end == "time out" else None,
        )
        async with asyncio.timeout(20):
            while (await handle.describe()).history_length < 4:  # noqa: ASYNC110 - until its first task is through
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
async def operations(temporal_client: Client) -> AsyncIterator[Ended]:
    queue = f"ending-{uuid4().hex}"
    async with Worker(
        temporal_client, task_queue=queue, workflows=[Ending], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        yield Ended(temporal_client, queue)


@pytest.fixture
def since() -> datetime:
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
async def test_repairs_what_ended_without_having_undone_all(
    temporal_client: Client, operations: Ended, since: datetime, end: str, compensated: bool | None, is_repaired: bool
) -> None:
    operation = await operations.ended(end, compensated=compensated)

    assert (operation.id in await Reconciler(temporal_client).reconcile(since)) is is_repaired
    if is_repaired:
        await repair_of(temporal_client, operation).terminate()


async def test_repairs_nothing_that_is_no_operation_and_nothing_that_closed_before(
    temporal_client: Client, operations: Ended
) -> None:
    other = await operations.ended("terminate", is_operation=False)
    earlier = await operations.ended("terminate")
    closed = (await earlier.describe()).close_time
    assert closed is not None

    found = await Reconciler(temporal_client).reconcile(closed + timedelta(milliseconds=1))

    assert {other.id, earlier.id}.isdisjoint(found)


async def test_of_many_looks_at_once_one_begins_the_repair(
    temporal_client: Client, operations: Ended, since: datetime
) -> None:
    operation = await operations.ended("terminate")

    found = await asyncio.gather(*(Reconciler(temporal_client).reconcile(since) for _ in range(5)))

    assert sum(each.count(operation.id) for each in found) == 1
    assert operation.id not in await Reconciler(temporal_client).reconcile(since), "it is under way"
    await repair_of(temporal_client, operation).terminate()


async def test_a_repair_that_failed_is_begun_again_and_one_that_is_through_never(
    temporal_client: Client, operations: Ended, since: datetime
) -> None:
    operation, reconciler = await operations.ended("terminate"), Reconciler(temporal_client)
    assert operation.id in await reconciler.reconcile(since)
    await repair_of(temporal_client, operation).terminate()

    assert operation.id in await reconciler.reconcile(since)

    async with Worker(
        temporal_client,
        task_queue=TaskQueue.OPERATIONS,
        workflows=[RepairOperation],
        activities=activities_of(Operations(temporal_client)),
        workflow_runner=workflow_runner(),
    ):
        await repair_of(temporal_client, operation).result()
    assert operation.id not in await reconciler.reconcile(since)


class Looking(Reconciler):
    """Notes when it looks and how far back, instead of asking Temporal; the looks of these numbers fail."""

    def __init__(self, client: Client, within: timedelta, failing: set[int]) -> None:
        super().__init__(client, within)
        self._failing = failing
        self.looks: list[tuple[datetime, datetime]] = []
        self.are_enough = asyncio.Event()

    async def reconcile(self, since: datetime) -> list[str]:
        self.looks.append((utc_now(), since))
        if len(self.looks) == 6:
            self.are_enough.set()
        if len(self.looks) in self._failing:
            raise ConnectionError("Temporal is away")
        return []


async def looks_of(client: Client, *, failing: set[int]) -> list[tuple[datetime, datetime]]:
    reconciler = Looking(client, timedelta(seconds=0.9), failing)
    with capture_logs() as logs:
        async with BackgroundTasks() as tasks, asyncio.timeout(10):
            tasks.start(reconciler.reconcile_regularly(), name="look")
            await reconciler.are_enough.wait()
    assert [log["event"] for log in logs] == ["looking for operations to repair failed"] * len(failing)
    return reconciler.looks[:6]


SOON = timedelta(seconds=0.25)


async def test_the_first_look_goes_back_a_week_and_each_later_one_to_five_minutes_before_the_last(
    temporal_client: Client,
) -> None:
    looks = await looks_of(temporal_client, failing=set())

    (first, since), *_ = looks
    assert timedelta(0) <= first - since - timedelta(days=7) < SOON
    for (before, _), (_, since) in pairwise(looks):
        assert timedelta(0) <= before - since - timedelta(minutes=5) < SOON


async def test_it_looks_three_times_within_its_period(temporal_client: Client) -> None:
    looks = await looks_of(temporal_client, failing=set())

    assert looks[3][0] - looks[0][0] < timedelta(seconds=1.8)
    assert looks[5][0] - looks[0][0] >= timedelta(seconds=1.5)


async def test_a_look_that_failed_is_made_up_for_by_the_next_one(temporal_client: Client) -> None:
    looks = await looks_of(temporal_client, failing={1, 2, 4})

    sinces = [since for _, since in looks]
    assert sinces[0] == sinces[1] == sinces[2]
    assert sinces[3] > sinces[2]
    assert sinces[4] == sinces[3]
    assert sinces[5] > sinces[4]
