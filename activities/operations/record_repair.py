"""The repair of the record of operations: it finds what the record missed and corrects it from Temporal.

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

PERIOD = timedelta(minutes=1)
"""Within which a deviation is corrected once it can be found."""
RECORD_RETENTION = timedelta(days=365)
"""How long the record keeps an operation that has closed."""
_ROUNDS_PER_PERIOD = 3
_OVERLAP = timedelta(minutes=2)
"""Visibility is eventually consistent: each round reads again what the rounds of this time have read."""
_VISIBILITY_LAG = timedelta(seconds=10)
"""How long visibility may show an older state than the one that a worker has published."""
_JUST_STARTED = timedelta(seconds=2)
"""The gateway that started an operation writes it within this time."""
_START_DELAY = timedelta(seconds=10)
"""A run that began later than this after the operation was started may be a later run, as after a reset."""
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
_CHECKS = 5
"""How often an operation is described until Temporal has the state that a worker published."""
_LOST = OperationFailure(
    code=OperationErrorCode.DATA_INCONSISTENCY,
    message="This operation was lost; what it had done may have to be corrected by hand.",
)

log = structlog.get_logger(__name__)


class Unreadable(Exception):
    """The state of an operation cannot be read, for instance because its encryption key is missing."""


Publish: TypeAlias = Callable[[Collection[str]], Awaitable[None]]


async def publish_nothing(_operation_ids: Collection[str]) -> None:
    """The publication of a repair without subscribers."""


class RecordRepair:
    """Compares the record with Temporal at an interval. A lease in the database lets one process at a time do so."""

    def __init__(
        self,
        client: Client,
        service: OperationsService,
        *,
        within: timedelta = PERIOD,
        retention: timedelta = RECORD_RETENTION,
        missing_timeout: timedelta = MISSING_TIMEOUT,
        publish: Publish = publish_nothing,
    ) -> None:
        """``publish`` sends change notifications of operations whose workers did not, as after a termination."""
        self._client = client
        self._service = service
        self._interval = within / _ROUNDS_PER_PERIOD
        self._retention = retention
        self._missing_timeout = missing_timeout
        self._publish = publish
        self._lease = RepairLease(self._interval)
        self._to_check: dict[str, int] = {}
        self._has_checks = asyncio.Event()

    async def run(self) -> None:
        """Repair until cancelled. A failure is logged, and the next round repeats what was not done."""
        while True:
            try:
                if await self._lease.acquire():
                    await self._run_round()
            except Exception:
                log.exception("record_repair_failed")
            await asyncio.sleep(self._interval.total_seconds())

    async def _run_round(self) -> None:
        """One round; afterwards no process begins another one within the interval, unless this one has failed."""
        began, free_at = utc_now(), None
        try:
            await self.reconcile()
            free_at = began + self._interval
        finally:
            await self._lease.release(free_at=free_at)

    def check_soon(self, operation_id: str, revision: int) -> None:
        """Correct the record once Temporal has the revision, as for a state of a run that a reset began."""
        self._to_check[operation_id] = max(revision, self._to_check.get(operation_id, 0))
        self._has_checks.set()

    async def check_regularly(self) -> None:
        """Make the checks that were asked for, until cancelled; the next round makes up for one that fails."""
        while True:
            await self._has_checks.wait()
            self._has_checks.clear()
            checks, self._to_check = self._to_check, {}
            for _ in range(_CHECKS):
                await asyncio.sleep(_CHECK_DELAY_SECONDS)
                checks = {id_: revision for id_, revision in checks.items() if not await self._has(id_, revision)}
                if not checks:
                    break

    async def reconcile(self) -> None:
        """Make one complete round.

        It compares the record with the executions that started or closed since the last complete round, describes the
        operations that the record has as open and visibility does not, and deletes records past their retention.

        Raises:
            LeaseLost: another process has acquired the lease, because this round took too long.
        """
        began = utc_now()
        watermark = await self._lease.watermark()
        corrected = await self._compare_executions(began, None if watermark is None else watermark - _OVERLAP)
        corrected += await self._check_open(began)
        corrected += await self._check_repaired()
        while await self._service.remove_older_than(self._retention):
            await self._lease.keep()
        await self._lease.set_watermark(began)
        if corrected:
            log.warning("record_corrected", operations=corrected)

    async def correct(self, operation_id: str) -> bool:
        """Replace the record by the state that Temporal has now; return whether that changed the record."""
        began = utc_now()
        try:
            operation = await self._describe(operation_id)
        except Unreadable:
            return False
        if operation is None:
            return False
        return await self._service.replace(OperationRecord(operation=operation), read_at=began)

    async def _has(self, operation_id: str, revision: int) -> bool:
        """Correct the record; whether Temporal had the revision already, so that nothing is left to check."""
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
        """Correct the operations of one page that the record does not have as Temporal does."""
        newest: dict[str, WorkflowExecution] = {}
        for execution in executions:
            if execution.id not in newest or execution.start_time > newest[execution.id].start_time:
                newest[execution.id] = execution
        stored = await self._service.versions(list(newest))
        findings = _Findings(began)
        for execution in newest.values():
            operation = await self._operation_of(execution)
            if operation is not None:
                findings.add(execution, operation, stored.get(execution.id))
        await self._service.confirm(findings.confirmed)
        unknown = [OperationRecord(operation=operation) for operation in findings.unknown]
        for start in range(0, len(unknown), MAX_BATCH):
            await self._write(unknown[start : start + MAX_BATCH])
        return len(unknown) + await self._in_turn(findings.to_describe, self.correct)

    async def _write(self, batch: Sequence[OperationRecord]) -> None:
        try:
            await write_batch(self._service.write, batch)
        except Exception as error:  # noqa: BLE001 - it is logged, or the database's own error is raised
            await self._note_rejected([record.operation.id for record in batch], error)

    async def _note_rejected(self, ids: Sequence[str], error: Exception) -> None:
        """Log that these operations cannot be stored, so that the round continues with the others.

        Raises:
            Exception: the database does not answer, so that the round must be repeated.
        """
        await self._service.versions(ids)
        log.error("records_rejected", operations=list(ids), exc_info=error)

    async def _operation_of(self, execution: WorkflowExecution) -> Operation | None:
        """The operation of a row of visibility; None if it is none of ours or cannot be read."""
        try:
            return await _read(execution, self._client)
        except (OperationNotFound, Unreadable):
            return None

    async def _check_open(self, began: datetime) -> int:
        """Describe what visibility does not show as running: its end may be unknown here, or Temporal has lost it."""
        written_before = began - self._interval
        unconfirmed = await self._service.unconfirmed(began, written_before=written_before, limit=_MAX_CHECKS)
        return await self._in_turn(unconfirmed, self._check_one)

    async def _check_one(self, operation_id: str) -> bool:
        began = utc_now()
        try:
            operation = await self._describe(operation_id)
        except Unreadable:
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
        return await self._service.replace(OperationRecord(operation=lost(found[0].operation)), read_at=began)

    async def _check_repaired(self) -> int:
        corrected = 0
        for operation in await self._service.unrepaired(_MAX_CHECKS):
            await self._pause(1 / DESCRIBES_PER_SECOND)
            repaired = await with_repair(operation, self._client)
            if not repaired.needs_repair:
                await self._write([OperationRecord(operation=repaired)])
                corrected += 1
        return corrected

    async def _in_turn(self, operation_ids: Iterable[str], correct: Callable[[str], Awaitable[bool]]) -> int:
        """Correct each of the operations, at the rate of describes; return how many records that changed."""
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
                await self._note_rejected([operation_id], error)
        return corrected

    async def _pause(self, seconds: float) -> None:
        """Wait between requests to Temporal, then renew the lease. Raises LeaseLost."""
        await asyncio.sleep(seconds)
        await self._lease.keep()

    async def _describe(self, operation_id: str) -> Operation | None:
        """The operation as its current run shows it; None if Temporal does not know it. Raises Unreadable."""
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
    """What the comparison of a page of visibility with the record has found."""

    began: datetime
    unknown: list[Operation] = field(default_factory=list)
    """Operations that the record does not have, in their first run."""
    to_describe: list[str] = field(default_factory=list)
    """Operations of which visibility and the record differ, or that are not in the record and may be in a later run."""
    confirmed: list[str] = field(default_factory=list)
    """Open operations of which both agree."""

    def add(self, execution: WorkflowExecution, operation: Operation, known: StoredVersion | None) -> None:
        if known is None:
            if execution.start_time > self.began - _JUST_STARTED:
                return
            if execution.start_time - operation.started_at < _START_DELAY:
                self.unknown.append(operation)
            else:
                self.to_describe.append(operation.id)
        elif known.deleted_at is not None and known.deleted_at >= operation.started_at:
            return
        elif _deviates(operation, known, self.began):
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
        raise Unreadable(execution.id) from error


def _deviates(operation: Operation, known: StoredVersion, now: datetime) -> bool:
    """Whether a row of visibility and the record differ, though visibility has had the time to show the record's."""
    is_settled = known.written_at < now - _VISIBILITY_LAG
    if known.run_id not in ("", operation.run_id):
        return True
    if operation.is_closed != known.is_closed:
        return operation.is_closed or is_settled
    if operation.is_closed:
        return operation.state.status is not known.status
    revision = operation.position.revision
    return revision > known.revision or (revision < known.revision and is_settled)


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
