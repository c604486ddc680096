"""Map the exception that ended a workflow to the OperationFailure that clients read."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

from contracts.errors import (
    DeadlineExceeded,
    DomainError,
    ErrorRecord,
    OperationErrorCode,
    from_record,
)
from contracts.operations import OperationFailure, OperationStatus
from workflows.options import NETWORK, RETRY_BY_ERROR, TIMEOUT, RetrySchedule

_UNKNOWN = "A step failed; try again."
_CANCELLED = "It was cancelled."


def is_terminal(error: BaseException) -> bool:
    """Return whether the error ends the workflow: by a failure or by a client's cancellation.

    Any other error either fails only the workflow task, which Temporal retries, or is raised because the worker evicts
    the workflow from its cache. The operation then continues, so its steps must not be undone.
    """
    if isinstance(error, GeneratorExit):  # a stopping worker discards the coroutine, outside of any workflow
        return False
    if isinstance(error, asyncio.CancelledError):
        return workflow.cancellation_reason() is not None
    return workflow.is_failure_exception(error)


def closing_status(error: BaseException) -> OperationStatus:
    """Return the status of an operation that this error ends: CANCELLED, TIMED_OUT or FAILED."""
    if workflow.cancellation_reason() is not None:
        return OperationStatus.CANCELLED
    if isinstance(error, DeadlineExceeded):
        return OperationStatus.TIMED_OUT
    return OperationStatus.FAILED


def to_failure(error: BaseException, step: str | None) -> OperationFailure:
    """Return the failure that clients read, before the compensations: ``compensated`` is still False."""
    if workflow.cancellation_reason() is not None:
        return OperationFailure(code=OperationErrorCode.CANCELLED, message=_CANCELLED, step=step, retryable=True)
    domain_error = _domain_error(error)
    if domain_error is None:
        return OperationFailure(code=OperationErrorCode.ACTIVITY_FAILED, message=_UNKNOWN, step=step, retryable=True)
    return OperationFailure(
        code=domain_error.operation_code,
        message=domain_error.message,
        step=step,
        retryable=domain_error.retryable,
        user_recoverable=domain_error.user_recoverable,
        fields=domain_error.fields,
    )


def retry_schedule_of(error: ActivityError) -> RetrySchedule | None:
    """Return the retry schedule for a fault; None for a DomainError or a cancellation, which are final."""
    cause = error.cause
    if isinstance(cause, ActivityTimeoutError):
        return TIMEOUT
    if isinstance(cause, ApplicationError) and not cause.non_retryable:
        return RETRY_BY_ERROR.get(cause.type or "", NETWORK)
    return None


def is_domain_error(error: ActivityError, kind: type[DomainError]) -> bool:
    """Return whether the activity raised a DomainError of this class."""
    return isinstance(_domain_error(error), kind)


def user_message(error: BaseException) -> str:
    """Return the message that users read for the error."""
    if is_cancelled_exception(error):
        return _CANCELLED
    domain_error = _domain_error(error)
    return _UNKNOWN if domain_error is None else domain_error.message


def _domain_error(error: BaseException) -> DomainError | None:
    """Return the DomainError that the exception is or wraps; None for a fault."""
    if isinstance(error, DomainError):
        return error
    cause = error.cause if isinstance(error, ActivityError) else error
    if isinstance(cause, ActivityTimeoutError):
        return DeadlineExceeded("A step took too long; try again.")
    if isinstance(cause, ApplicationError) and cause.details:
        try:
            return from_record(ErrorRecord.model_validate(cause.details[0]))
        except (ValueError, LookupError):
            return None
    return None
