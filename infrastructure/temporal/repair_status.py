"""The repair of operations that ended with completed steps that were not compensated."""

from __future__ import annotations

from datetime import timedelta

import structlog
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from contracts.compensation_repair import repair_id
from contracts.operations import Operation, StepStatus
from infrastructure.temporal.operation_history import ENDED_FROM_OUTSIDE

_UNDONE_SINCE = {ENDED_FROM_OUTSIDE: "It was ended from outside; what it had done was undone."}
_RPC_SECONDS = timedelta(seconds=2)
_AFTERWARDS = {
    StepStatus.COMPLETED: StepStatus.COMPENSATED,
    StepStatus.COMPENSATION_FAILED: StepStatus.COMPENSATED,
    StepStatus.RUNNING: StepStatus.FAILED,
    StepStatus.RETRYING: StepStatus.FAILED,
}
"""The status of each step after the repair: the step that was running did not complete."""

log = structlog.get_logger()


async def with_repair(operation: Operation, client: Client) -> Operation:
    """Return the operation as it is after its repair, if that has completed. Costs no call if no repair is needed.

    The memo of a closed workflow is read-only, so this describes the repair, which is a workflow of its own.
    """
    failure = operation.state.failure
    if failure is None or not operation.needs_repair or not await _is_repaired(operation, client):
        return operation
    steps = tuple(
        step.model_copy(update={"status": _AFTERWARDS.get(step.status, step.status)}) for step in operation.state.steps
    )
    message = _UNDONE_SINCE.get(failure.message, f"{failure.message} It has been undone since.")
    undone = failure.model_copy(update={"compensated": True, "message": message})
    state = operation.state.model_copy(update={"steps": steps, "failure": undone})
    position = operation.position.model_copy(update={"repaired": True})
    return operation.model_copy(update={"state": state, "position": position})


async def _is_repaired(operation: Operation, client: Client) -> bool:
    repairing = client.get_workflow_handle(repair_id(operation.id, operation.run_id))
    try:
        repair = await repairing.describe(rpc_timeout=_RPC_SECONDS)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:  # the operation is returned without its repair
            log.warning("repair_not_described", operation_id=operation.id, error=repr(error))
        return False
    return repair.status is WorkflowExecutionStatus.COMPLETED
