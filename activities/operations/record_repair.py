"""The repair of the record of operations: it finds what the record missed and corrects it from Temporal.

A write can be lost, a workflow can be terminated or reset, and a database or Temporal can be restored from a backup.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError, RPCStatusCode

from activities.operations.service import OperationsService, StoredVersion
from contracts.base import utc_now
from contracts.errors import OperationErrorCode, OperationNotFound
from contracts.operation_records import OperationRecord
from contracts.operations import (
    ATTRIBUTE_KIND,
    Operation,
    OperationFailure,
    OperationKind,
    OperationStatus,
    StepStatus,
)
from infrastructure.operation_history import operation_of
from infrastructure.repair_status import with_repair

PERIOD = timedelta(minutes=1)
"""Within which a deviation is corrected once it can be found."""
RECORD_RETENTION = timedelta(days=365)
"""How long the record keeps an operation that has closed."""
_ROUNDS_PER_PERIOD = 3
_OVERLAP = timedelta(minutes=2)
"""Visibility is eventually consistent: each round reads again what the rounds of this time have read."""
MISSING_TIMEOUT = timedelta(seconds=60)
"""After which an operation that has not closed, and that Temporal does not know, has failed."""
DESCRIBES_PER_SECOND = 50
PAGES_PER_SECOND = 2
"""Of Temporal's visibility, which allows ten requests a second."""
_PAGE_SIZE = 1_000
_MAX_CHECKS = 500
"""Open operations, and repaired ones, that one round describes."""
_RPC_TIMEOUT = timedelta(seconds=10)
_CHECK_DELAY_SECONDS = 0.2
"""Temporal has a state that a worker published once the workflow task has completed."""
_LOST = OperationFailure(
    code=OperationErrorCode.DATA_INCONSISTENCY,
    message="This operation was lost; what it had done may have to be corrected by hand.",
)

log = structlog.get_logger(__name__)


class RecordRepair:
    """One process at a time repairs, by a lease in the database; any number may try."""

    def __init__(
        self,
        client: Client,
        service: OperationsService,
        *,
        within: timedelta = PERIOD,
        retention: timedelta = RECORD_RETENTION,
    ) -> None:
        self._client = client
        self._service = service
        self._interval = within / _ROUNDS_PER_PERIOD
        self._retention = retention
        self._to_check: set[str] = set()
        self._has_checks = asyncio.Event()

    async def run(self) -> None:
        """Repair until cancelled. A failure is logged, and the next round repeats what was not done."""
        while True:
            try:
                if await self._service.acquire_repair_lease(self._interval * 2):
                    await self.reconcile()
            except Exception:
                log.exception("record_repair_failed")
            await asyncio.sleep(self._interval.total_seconds())

    def check_soon(self, operation_id: str) -> None:
        """Have the operation described and its record corrected, as after a state of a run that a reset began."""
        self._to_check.add(operation_id)
        self._has_checks.set()

    async def check_regularly(self) -> None:
        """Make the checks that were asked for, until cancelled; the next round makes up for one that fails."""
        while True:
            await self._has_checks.wait()
            await asyncio.sleep(_CHECK_DELAY_SECONDS)
            self._has_checks.clear()
            while self._to_check:
                await self._correct_in_turn(self._to_check.pop())

    async def reconcile(self) -> None:
        """Correct what started or closed since the last complete round, and what the record shows as open."""
        began = utc_now()
        watermark = await self._service.repair_watermark()
        corrected = await self._compare_executions(None if watermark is None else watermark - _OVERLAP)
        corrected += await self._check_open()
        corrected += await self._check_repaired()
        while await self._service.remove_older_than(self._retention):
            pass
        await self._service.set_repair_watermark(began)
        if corrected:
            log.warning("record_corrected", operations=corrected)

    async def correct(self, operation_id: str) -> bool:
        """Have the record show what Temporal knows of the operation now; True if that is known and changed it."""
        began = utc_now()
        operation = await self._describe(operation_id)
        if operation is None:
            return False
        return await self._service.replace(OperationRecord(operation=operation), if_written_before=began)

    async def _compare_executions(self, since: datetime | None) -> int:
        kinds = ", ".join(f'"{kind}"' for kind in OperationKind)
        query = f"{ATTRIBUTE_KIND} IN ({kinds})"
        if since is not None:
            query += f' AND (StartTime > "{since.isoformat()}" OR CloseTime > "{since.isoformat()}")'
        pages = self._client.list_workflows(query, page_size=_PAGE_SIZE, rpc_timeout=_RPC_TIMEOUT)
        corrected = 0
        while True:
            await pages.fetch_next_page()
            corrected += await self._compare(pages.current_page or ())
            if pages.next_page_token is None:
                return corrected
            await asyncio.sleep(1 / PAGES_PER_SECOND)

    async def _compare(self, executions: Sequence[WorkflowExecution]) -> int:
        """Correct the operations of one page that the record does not have as Temporal does."""
        by_id: dict[str, list[WorkflowExecution]] = {}
        for execution in executions:
            by_id.setdefault(execution.id, []).append(execution)
        stored = await self._service.versions(list(by_id))
        corrected = 0
        for operation_id, runs in by_id.items():
            newest = max(runs, key=lambda run: run.start_time)
            if await self._deviates(newest, stored.get(operation_id)):
                corrected += await self._correct_in_turn(operation_id)
        return corrected

    async def _deviates(self, execution: WorkflowExecution, stored: StoredVersion | None) -> bool:
        if stored is None:
            return True
        if stored.is_deleted or stored.run_id not in ("", execution.run_id):
            return not stored.is_deleted
        try:
            operation = await operation_of(execution, self._client)
        except OperationNotFound:
            return False
        if operation.is_closed != stored.is_closed:
            return True
        return operation.is_closed and operation.state.status is not stored.status

    async def _check_open(self) -> int:
        """Describe what has been open for a while: its end may be unknown here, or Temporal may have lost it."""
        corrected = 0
        for operation_id in await self._service.longest_unconfirmed(MISSING_TIMEOUT, _MAX_CHECKS):
            began = utc_now()
            operation = await self._describe_in_turn(operation_id)
            if operation is not None:
                record = OperationRecord(operation=operation)
                corrected += await self._service.replace(record, if_written_before=began, confirm=True)
            elif await self._service.mark_missing(operation_id, MISSING_TIMEOUT):
                corrected += await self._fail(operation_id)
        return corrected

    async def _fail(self, operation_id: str) -> bool:
        found = (await self._service.look_up([operation_id])).records
        if not found or found[0].operation.is_closed:
            return False
        return await self._service.replace(OperationRecord(operation=lost(found[0].operation)))

    async def _check_repaired(self) -> int:
        corrected = 0
        for operation in await self._service.unrepaired(_MAX_CHECKS):
            repaired = await with_repair(operation, self._client)
            if not repaired.needs_repair:
                await self._service.write([OperationRecord(operation=repaired)])
                corrected += 1
        return corrected

    async def _correct_in_turn(self, operation_id: str) -> bool:
        await asyncio.sleep(1 / DESCRIBES_PER_SECOND)
        return await self.correct(operation_id)

    async def _describe_in_turn(self, operation_id: str) -> Operation | None:
        await asyncio.sleep(1 / DESCRIBES_PER_SECOND)
        return await self._describe(operation_id)

    async def _describe(self, operation_id: str) -> Operation | None:
        """The operation as its current run shows it; None if Temporal does not know it."""
        try:
            description = await self._client.get_workflow_handle(operation_id).describe(rpc_timeout=_RPC_TIMEOUT)
            operation = await operation_of(description, self._client)
        except OperationNotFound:
            return None
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return None
            raise
        return await with_repair(operation, self._client)


def lost(operation: Operation) -> Operation:
    """The operation as failed, because Temporal does not know it any more."""
    steps = tuple(
        step.model_copy(update={"status": StepStatus.FAILED})
        if step.status in (StepStatus.RUNNING, StepStatus.RETRYING)
        else step
        for step in operation.state.steps
    )
    state = operation.state.model_copy(
        update={"status": OperationStatus.FAILED, "steps": steps, "failure": _LOST, "challenge": None}
    )
    position = operation.position.model_copy(update={"closed": True, "attempt": 0, "permille": 0})
    return operation.model_copy(update={"state": state, "closed_at": utc_now(), "position": position})
