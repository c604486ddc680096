"""Finds operations that ended without undoing what they did, and has each of them repaired."""

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

PERIOD = timedelta(minutes=1)
"""Within which an operation is repaired that was ended while workers are there and well."""
_LOOKS = 3
"""In one period, for lists lag behind and a repair takes its time."""
_AT_FIRST = timedelta(days=7)
"""How far the first look of a process goes back: longer than nobody was there to look."""
_OVERLAP = timedelta(minutes=5)
"""Lists lag behind; and a repair that failed is begun again at the next looks."""
_RPC = timedelta(seconds=10)
_UNCLEAN = ("Terminated", "TimedOut", "Failed", "Canceled")

log = structlog.get_logger(__name__)


class Reconciler:
    """Any number of processes may search at the same time: a run of an operation has one repair, by its workflow id.

    A run that another one has followed, as after a reset, is not the end of its operation and needs none.
    """

    def __init__(self, client: Client, within: timedelta = PERIOD) -> None:
        self._client = client
        self._every = within / _LOOKS

    async def reconcile_regularly(self) -> None:
        """Look until cancelled. Trouble is logged and met again at the next look."""
        since = utc_now() - _AT_FIRST
        while True:
            began = utc_now()
            try:
                if repairs := await self.reconcile(since):
                    log.warning("operations are repaired", operations=repairs)
                since = began - max(_OVERLAP, 3 * self._every)
            except Exception:
                log.exception("looking for operations to repair failed")
            await asyncio.sleep(self._every.total_seconds())

    async def reconcile(self, since: datetime) -> list[str]:
        """Begin the repair of all that closed since then and need it; those whose repair is new or begins again."""
        return [
            ended.operation_id
            async for ended in self._unclean(since)
            if await is_current(self._client, ended) and await self._begin(ended)
        ]

    async def _unclean(self, since: datetime) -> AsyncIterator[EndedOperation]:
        kinds = ", ".join(f'"{kind}"' for kind in OperationKind)
        ends = ", ".join(f'"{end}"' for end in _UNCLEAN)
        query = f'{ATTRIBUTE_KIND} IN ({kinds}) AND ExecutionStatus IN ({ends}) AND CloseTime > "{since.isoformat()}"'
        async for row in self._client.list_workflows(query, rpc_timeout=_RPC):
            if await _left_something(row):
                yield EndedOperation(operation_id=row.id, run_id=row.run_id)

    async def _begin(self, ended: EndedOperation) -> bool:
        try:
            await self._client.start_workflow(
                RepairOperation.run,
                ended,
                id=repair_id(ended.operation_id, ended.run_id),
                task_queue=TaskQueue.OPERATIONS,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                rpc_timeout=_RPC,
            )
        except WorkflowAlreadyStartedError:
            return False
        return True


async def _left_something(row: WorkflowExecution) -> bool:
    """Whether its last word is not that all is done or undone."""
    state = OperationState.model_validate(await row.memo_value(MEMO_STATE, type_hint=dict[str, object]))
    return state.failure is None or not state.failure.compensated
