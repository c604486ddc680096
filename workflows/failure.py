"""From the exception that ended a workflow to the OperationFailure that its client reads."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError

from contracts.errors import (
    DeadlineExceeded,
    DomainError,
    ErrorRecord,
    OperationErrorCode,
    from_record,
)
from contracts.operations import OperationFailure, OperationStatus


def is_ending(error: BaseException) -> bool:
    """Whether the error ends the workflow, by failure or by a client's cancellation.

    Any other only fails a workflow task, which Temporal tries again, or is the worker evicting the workflow from its cache: to
    undo then would undo live work.
    """
    if isinstance(error, asyncio.CancelledError):
        return workflow.cancellation_reason() is not None
    return workflow.is_failure_exception(error)


def closing_status(error: BaseException) -> OperationStatus:
    if workflow.cancellation_reason() is not None:
        return OperationStatus.CANCELLED
    if isinstance(error, DeadlineExceeded):
        return OperationStatus.TIMED_OUT
    return OperationStatus.FAILED


def describe(error: BaseException, step: str | None) -> OperationFailure:
    """What the client is told; ``compensated`` is still to be found out."""
    if workflow.cancellation_reason() is not None:
        return OperationFailure(
            code=OperationErrorCode.CANCELLED, message="It was cancelled.", step=step, retryable=True
        )
    domain_error = _domain_error(error)
    if domain_error is None:
        return OperationFailure(
            code=OperationErrorCode.ACTIVITY_FAILED, message="A step failed; try again.", step=step, retryable=True
        )
    return OperationFailure(
        code=domain_error.operation_code,
        message=domain_error.message,
        step=step,
        retryable=domain_error.retryable,
        user_recoverable=domain_error.user_recoverable,
        fields=domain_error.fields,
    )


def _domain_error(error: BaseException) -> DomainError | None:
    """The answer behind the error; None where it is mere trouble."""
    if isinstance(error, DomainError):
        return error
    cause = error.cause if isinstance(error, ActivityError) else error
    if isinstance(cause, TimeoutError):
        return DeadlineExceeded("A step took too long; try again.")
    if isinstance(cause, ApplicationError) and cause.details:
        try:
            return from_record(ErrorRecord.model_validate(cause.details[0]))
        except (ValueError, LookupError):
            return None
    return None
