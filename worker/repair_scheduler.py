"""Find operations that closed without their compensations, and start a repair workflow for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import structlog
from temporalio.client import Client, WorkflowExecution
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.operations.activities import is_current
from contracts.base import utc_now
from contracts.compensation_repair import EndedOperation, repair_id
from contracts.operations import ATTRIBUTE_KIND, MEMO_STATE, OperationKind, OperationState
from contracts.task_queues import TaskQueue
from workflows.repair_operation import RepairOperation

REPAIR_DEADLINE = timedelta(minutes=1)
"""The time within which an operation is repaired that was terminated while workers run."""
_SCANS_PER_DEADLINE = 3
"""Several scans, because lists of Temporal lag and a repair takes time."""
_FIRST_SCAN_PERIOD = timedelta(days=7)
"""The period before the start of the process that its first scan covers; longer than any outage of all workers."""
_OVERLAP = timedelta(minutes=5)
"""The overlap of two scans, because lists lag and because a later scan repeats a failed repair."""
_RPC_TIMEOUT = timedelta(seconds=10)
_UNSUCCESSFUL_STATUSES = ("Terminated", "TimedOut", "Failed", "Canceled")

log = structlog.get_logger(__name__)


class RepairScheduler:
    """Starts the repairs. Several processes may do so: the workflow id of a repair is derived from the operation's run.

    A run that is followed by another run, as after a reset, is not the end of its operation and is not repaired.
    """

    def __init__(self, client: Client, deadline: timedelta = REPAIR_DEADLINE) -> None:
        self._client = client
        self._scan_interval = deadline / _SCANS_PER_DEADLINE

    async def run(self) -> None:
        """Scan until cancelled. An error is logged, and the next scan covers the same period."""
        since = utc_now() - _FIRST_SCAN_PERIOD
        while True:
            started = utc_now()
            try:
                if repairs := await self.start_repairs(since):
                    log.warning("operation_repairs_started", operations=repairs)
                since = started - max(_OVERLAP, 3 * self._scan_interval)
            except Exception:
                log.exception("repair_scan_failed")
            await asyncio.sleep(self._scan_interval.total_seconds())

    async def start_repairs(self, since: datetime) -> list[str]:
        """Start the missing repairs of operations that closed since then; return the ids of these operations."""
        return [
            ended.operation_id
            async for ended in self._operations_to_repair(since)
            if await is_current(self._client, ended) and await self._start_repair(ended)
        ]

    async def _operations_to_repair(self, since: datetime) -> AsyncIterator[EndedOperation]:
        kinds = ", ".join(f'"{kind}"' for kind in OperationKind)
        ends = ", ".join(f'"{status}"' for status in _UNSUCCESSFUL_STATUSES)
        query = f'{ATTRIBUTE_KIND} IN ({kinds}) AND ExecutionStatus IN ({ends}) AND CloseTime > "{since.isoformat()}"'
        async for row in self._client.list_workflows(query, rpc_timeout=_RPC_TIMEOUT):
            if await _needs_repair(row):
                yield EndedOperation(operation_id=row.id, run_id=row.run_id)

    async def _start_repair(self, ended: EndedOperation) -> bool:
        try:
            await self._client.start_workflow(
                RepairOperation.run,
                ended,
                id=repair_id(ended.operation_id, ended.run_id),
                task_queue=TaskQueue.OPERATIONS,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                rpc_timeout=_RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return False
        return True


async def _needs_repair(row: WorkflowExecution) -> bool:
    """Whether the last state of the workflow does not say that all steps are completed or undone."""
    state = OperationState.model_validate(await row.memo_value(MEMO_STATE, type_hint=dict[str, object]))
    return state.failure is None or not state.failure.compensated
