"""The state of an operation whose completed steps were compensated by a repair after the operation had ended."""

from __future__ import annotations

from datetime import timedelta

import structlog
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from contracts.compensation_repair import repair_id
from contracts.operations import Operation, StepStatus
from infrastructure.temporal.operation_history import TERMINATED_MESSAGE

_MESSAGES_AFTER_REPAIR = {TERMINATED_MESSAGE: "The operation was terminated; its completed steps were undone."}
_RPC_TIMEOUT = timedelta(seconds=2)
_STATUSES_AFTER_REPAIR = {
    StepStatus.COMPLETED: StepStatus.COMPENSATED,
    StepStatus.COMPENSATION_FAILED: StepStatus.COMPENSATED,
    StepStatus.RUNNING: StepStatus.FAILED,
    StepStatus.RETRYING: StepStatus.FAILED,
}
"""The status of a step after the repair by its status before: a step that was running has not completed."""

log = structlog.get_logger()


async def with_repair(operation: Operation, client: Client) -> Operation:
    """Return the operation with the result of its repair, if the repair has completed.

    The memo of a closed workflow is read-only, so the repair is a workflow of its own, which this function describes.
    For an operation that needs no repair it makes no call.
    """
    failure = operation.state.failure
    if failure is None or not operation.needs_repair or not await _is_repaired(operation, client):
        return operation
    steps = tuple(
        step.model_copy(update={"status": _STATUSES_AFTER_REPAIR.get(step.status, step.status)})
        for step in operation.state.steps
    )
    message = _MESSAGES_AFTER_REPAIR.get(
        failure.message, f"{failure.message} Its completed steps have been undone since."
    )
    repaired = failure.model_copy(update={"compensated": True, "message": message})
    state = operation.state.model_copy(update={"steps": steps, "failure": repaired})
    position = operation.position.model_copy(update={"repaired": True})
    return operation.model_copy(update={"state": state, "position": position})


async def _is_repaired(operation: Operation, client: Client) -> bool:
    handle = client.get_workflow_handle(repair_id(operation.id, operation.run_id))
    try:
        repair = await handle.describe(rpc_timeout=_RPC_TIMEOUT)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:  # the operation is returned without the result of the repair
            log.warning("repair_not_described", operation_id=operation.id, error=repr(error))
        return False
    return repair.status is WorkflowExecutionStatus.COMPLETED
