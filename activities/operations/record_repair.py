"""The repair of the record of operations: it compares the record with Temporal and corrects differences.

A write can be lost, a workflow can be terminated or reset, and a database or Temporal can be restored from a backup.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

import structlog
from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError, RPCStatusCode

from activities.operations.repair_lease import RepairLease
from activities.operations.service import OperationsService, StoredVersion
from contracts.base import utc_now
from contracts.errors import OperationErrorCode, OperationNotFound
from contracts.operation_records import MAX_BATCH, OperationRecord
from contracts.operations import (
    ATTRIBUTE_KIND,
    Operation,
    OperationFailure,
    OperationKind,
    OperationStatus,
    StepStatus,
)
from infrastructure.record_buffer import write_batch
from infrastructure.temporal.operation_history import to_operation
from infrastructure.temporal.repair_status import with_repair

REPAIR_DEADLINE = timedelta(minutes=1)
"""Time within which a difference is corrected after Temporal's visibility shows it."""
RECORD_RETENTION = timedelta(days=365)
"""Time for which the record keeps a closed operation."""
_ROUNDS_PER_DEADLINE = 3
_OVERLAP = timedelta(minutes=2)
"""Visibility is eventually consistent, so each round reads the period of the previous rounds of this time again."""
_VISIBILITY_LAG = timedelta(seconds=10)
"""Time for which visibility may show an older state than the one that a worker has published."""
_START_WRITE_DELAY = timedelta(seconds=2)
"""Time within which the gateway that started an operation writes its record."""
_MAX_START_DELAY = timedelta(seconds=10)
"""Maximum delay of the first run after the start of its operation; a run that began later may follow a reset."""
MISSING_TIMEOUT = timedelta(seconds=60)
"""Time after which an open operation that Temporal does not have is marked as failed."""
DESCRIBES_PER_SECOND = 50
PAGES_PER_SECOND = 2
"""Maximum rate of requests to Temporal's visibility, which allows ten requests per second."""
_PAGE_SIZE = 1_000
_MAX_CHECKS = 500
"""Maximum number of open operations, and of repaired operations, that one round describes."""
_RPC_TIMEOUT = timedelta(seconds=10)
_CHECK_DELAY_SECONDS = 0.2
"""Delay before a described operation is expected to have the state that a worker has published."""
_MAX_CHECK_ATTEMPTS = 5
"""Maximum number of describes until Temporal has the state that a worker has published."""
_LOST = OperationFailure(
    code=OperationErrorCode.DATA_INCONSISTENCY,
    message="This operation was lost; what it had done may have to be corrected by hand.",
)

log = structlog.get_logger(__name__)


class OperationUnreadable(Exception):
    """The state of an operation cannot be read, for instance because its encryption key is missing."""


Publish: TypeAlias = Callable[[Collection[str]], Awaitable[None]]


async def publish_nothing(_operation_ids: Collection[str]) -> None:
    """Publish no notifications; the default of a repair without subscribers."""


class RecordRepair:
    """Repairs the record at an interval. A lease in the database ensures that one process repairs at a time."""

    def __init__(
        self,
        client: Client,
        service: OperationsService,
        *,
        deadline: timedelta = REPAIR_DEADLINE,
        retention: timedelta = RECORD_RETENTION,
        missing_timeout: timedelta = MISSING_TIMEOUT,
        publish: Publish = publish_nothing,
    ) -> None:
        """Create the repair.

        Args:
            client: the client of Temporal.
            service: the record of operations.
            deadline: the time within which a difference is corrected after visibility shows it.
            retention: the time for which the record keeps closed operations.
            missing_timeout: the time after which an operation that Temporal does not have is marked as failed.
            publish: sends change notifications of corrected operations, as after a termination.
        """
        self._client = client
        self._service = service
        self._interval = deadline / _ROUNDS_PER_DEADLINE
        self._retention = retention
        self._missing_timeout = missing_timeout
        self._publish = publish
        self._lease = RepairLease(self._interval)
        self._to_check: dict[str, int] = {}
        self._has_checks = asyncio.Event()

    async def run(self) -> None:
        """Repair at an interval until cancelled. A failure is logged, and the next round repeats the rest."""
        while True:
            try:
                if await self._lease.acquire():
                    await self._run_round()
            except Exception:
                log.exception("record_repair_failed")
            await asyncio.sleep(self._interval.total_seconds())

    async def _run_round(self) -> None:
        """Execute one round. No process begins another round within the interval, unless this round fails."""
        began, free_at = utc_now(), None
        try:
            await self.reconcile()
            free_at = began + self._interval
        finally:
            await self._lease.release(free_at=free_at)

    def check_soon(self, operation_id: str, revision: int) -> None:
        """Schedule a correction of the record once Temporal has the revision, as for a run that a reset has started."""
        self._to_check[operation_id] = max(revision, self._to_check.get(operation_id, 0))
        self._has_checks.set()

    async def run_checks(self) -> None:
        """Execute the checks that ``check_soon`` schedules, until cancelled. The next round covers a failed check."""
        while True:
            await self._has_checks.wait()
            self._has_checks.clear()
            checks, self._to_check = self._to_check, {}
            for _ in range(_MAX_CHECK_ATTEMPTS):
                await asyncio.sleep(_CHECK_DELAY_SECONDS)
                checks = {
                    id_: revision for id_, revision in checks.items() if not await self._is_checked(id_, revision)
                }
                if not checks:
                    break

    async def reconcile(self) -> None:
        """Execute one complete round.

        It compares the record with the executions that started or closed since the last complete round, describes the
        operations that are open in the record but not in visibility, and deletes records past their retention.

        Raises:
            LeaseLost: this round took too long, and another process has acquired the lease.
        """
        began = utc_now()
        watermark = await self._lease.watermark()
        corrected = await self._compare_executions(began, None if watermark is None else watermark - _OVERLAP)
        corrected += await self._check_open(began)
        corrected += await self._check_repaired()
        while await self._service.remove_older_than(self._retention):
            await self._lease.extend()
        await self._lease.set_watermark(began)
        if corrected:
            log.warning("record_corrected", operations=corrected)

    async def correct(self, operation_id: str) -> bool:
        """Replace the record by the current state in Temporal, and return whether the record has changed."""
        began = utc_now()
        try:
            operation = await self._describe(operation_id)
        except OperationUnreadable:
            return False
        if operation is None:
            return False
        return await self._service.replace(OperationRecord(operation=operation), read_at=began)

    async def _is_checked(self, operation_id: str, revision: int) -> bool:
        """Correct the record, and return whether Temporal has the revision, so that the check is complete."""
        try:
            began = utc_now()
            operation = await self._describe(operation_id)
            if operation is None:
                return True
            await self._service.replace(OperationRecord(operation=operation), read_at=began)
            return operation.is_closed or operation.position.revision >= revision
        except Exception:
            log.exception("record_check_failed", workflow_id=operation_id)
            return False

    async def _compare_executions(self, began: datetime, since: datetime | None) -> int:
        kinds = ", ".join(f'"{kind}"' for kind in OperationKind)
        query = f"{ATTRIBUTE_KIND} IN ({kinds})"
        if since is not None:
            moment = since.isoformat()
            query += f' AND (ExecutionStatus = "Running" OR StartTime > "{moment}" OR CloseTime > "{moment}")'
        pages = self._client.list_workflows(query, page_size=_PAGE_SIZE, rpc_timeout=_RPC_TIMEOUT)
        corrected = 0
        while True:
            await pages.fetch_next_page()
            corrected += await self._compare(pages.current_page or (), began)
            if pages.next_page_token is None:
                return corrected
            await self._pause(1 / PAGES_PER_SECOND)

    async def _compare(self, executions: Sequence[WorkflowExecution], began: datetime) -> int:
        """Correct the records of one page of visibility that differ from Temporal, and return their number."""
        newest: dict[str, WorkflowExecution] = {}
        for execution in executions:
            if execution.id not in newest or execution.start_time > newest[execution.id].start_time:
                newest[execution.id] = execution
        stored = await self._service.versions(list(newest))
        findings = _Findings(began)
        for execution in newest.values():
            operation = await self._read_execution(execution)
            if operation is not None:
                findings.add(execution, operation, stored.get(execution.id))
        await self._service.confirm(findings.confirmed)
        unknown = [OperationRecord(operation=operation) for operation in findings.unknown]
        for start in range(0, len(unknown), MAX_BATCH):
            await self._write(unknown[start : start + MAX_BATCH])
        return len(unknown) + await self._correct_each(findings.to_describe, self.correct)

    async def _write(self, batch: Sequence[OperationRecord]) -> None:
        try:
            await write_batch(self._service.write, batch)
        except Exception as error:  # noqa: BLE001 - it is logged, or the database's own error is raised
            await self._log_rejected([record.operation.id for record in batch], error)

    async def _log_rejected(self, ids: Sequence[str], error: Exception) -> None:
        """Log that the record rejects these operations, so that the round continues with the others.

        Raises:
            Exception: the database is unavailable, so the round must be repeated.
        """
        await self._service.versions(ids)
        log.error("records_rejected", operations=list(ids), exc_info=error)

    async def _read_execution(self, execution: WorkflowExecution) -> Operation | None:
        """Return the operation of an execution; None if it is not an operation or cannot be read."""
        try:
            return await _read(execution, self._client)
        except (OperationNotFound, OperationUnreadable):
            return None

    async def _check_open(self, began: datetime) -> int:
        """Describe open operations that visibility does not show as running: they have closed or are lost."""
        written_before = began - self._interval
        unconfirmed = await self._service.unconfirmed(began, written_before=written_before, limit=_MAX_CHECKS)
        return await self._correct_each(unconfirmed, self._check_one)

    async def _check_one(self, operation_id: str) -> bool:
        began = utc_now()
        try:
            operation = await self._describe(operation_id)
        except OperationUnreadable:
            await self._service.confirm([operation_id])
            return False
        if operation is not None:
            record = OperationRecord(operation=operation)
            return await self._service.replace(record, read_at=began, confirm=True)
        if not await self._service.mark_missing(operation_id, self._missing_timeout):
            return False
        found = (await self._service.look_up([operation_id])).records
        if not found or found[0].operation.is_closed:
            return False
        return await self._service.replace(OperationRecord(operation=as_lost(found[0].operation)), read_at=began)

    async def _check_repaired(self) -> int:
        corrected = 0
        for operation in await self._service.unrepaired(_MAX_CHECKS):
            await self._pause(1 / DESCRIBES_PER_SECOND)
            repaired = await with_repair(operation, self._client)
            if not repaired.needs_repair:
                await self._write([OperationRecord(operation=repaired)])
                corrected += 1
        return corrected

    async def _correct_each(self, operation_ids: Iterable[str], correct: Callable[[str], Awaitable[bool]]) -> int:
        """Correct the operations one by one, at the maximum rate of describes; return the number of changed records."""
        corrected = 0
        for operation_id in operation_ids:
            await self._pause(1 / DESCRIBES_PER_SECOND)
            try:
                if await correct(operation_id):
                    corrected += 1
                    await self._publish((operation_id,))
            except RPCError:
                raise
            except Exception as error:  # noqa: BLE001 - it is logged, or the database's own error is raised
                await self._log_rejected([operation_id], error)
        return corrected

    async def _pause(self, seconds: float) -> None:
        """Wait between requests to Temporal, then extend the lease. Raises LeaseLost."""
        await asyncio.sleep(seconds)
        await self._lease.extend()

    async def _describe(self, operation_id: str) -> Operation | None:
        """Return the operation from its newest run; None if Temporal does not have it. Raises OperationUnreadable."""
        try:
            description = await self._client.get_workflow_handle(operation_id).describe(rpc_timeout=_RPC_TIMEOUT)
            operation = await _read(description, self._client)
        except OperationNotFound:
            return None
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return None
            raise
        return await with_repair(operation, self._client)


@dataclass
class _Findings:
    """The result of the comparison of one page of visibility with the record."""

    began: datetime
    unknown: list[Operation] = field(default_factory=list)
    """Operations in their first run that the record does not have."""
    to_describe: list[str] = field(default_factory=list)
    """Operations that differ between visibility and the record, or that are missing and may be in a later run."""
    confirmed: list[str] = field(default_factory=list)
    """Open operations that are equal in visibility and the record."""

    def add(self, execution: WorkflowExecution, operation: Operation, stored: StoredVersion | None) -> None:
        """Add the comparison of one execution with the stored version of its operation."""
        if stored is None:
            if execution.start_time > self.began - _START_WRITE_DELAY:
                return
            if execution.start_time - operation.started_at < _MAX_START_DELAY:
                self.unknown.append(operation)
            else:
                self.to_describe.append(operation.id)
        elif stored.deleted_at is not None and stored.deleted_at >= operation.started_at:
            return
        elif _differs(operation, stored, self.began):
            self.to_describe.append(operation.id)
        elif not operation.is_closed:
            self.confirmed.append(operation.id)


async def _read(execution: WorkflowExecution, client: Client) -> Operation:
    try:
        return await to_operation(execution, client)
    except OperationNotFound:
        raise
    except Exception as error:
        log.warning("operation_unreadable", workflow_id=execution.id, error=repr(error))
        raise OperationUnreadable(execution.id) from error


def _differs(operation: Operation, stored: StoredVersion, now: datetime) -> bool:
    """Return whether visibility and the record differ for longer than visibility lags behind."""
    is_settled = stored.written_at < now - _VISIBILITY_LAG
    if stored.run_id not in ("", operation.run_id):
        return True
    if operation.is_closed != stored.is_closed:
        return operation.is_closed or is_settled
    if operation.is_closed:
        return operation.state.status is not stored.status
    revision = operation.position.revision
    return revision > stored.revision or (revision < stored.revision and is_settled)


def as_lost(operation: Operation) -> Operation:
    """Return the operation with the status FAILED, because Temporal does not have it any more."""
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
