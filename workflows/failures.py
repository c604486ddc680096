"""From the exception that ended a workflow to the OperationFailure that its client reads."""

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
from workflows.options import NETWORK, TIMEOUT, TROUBLE, RetrySchedule

_UNKNOWN = "A step failed; try again."
_CANCELLED = "It was cancelled."


def is_terminal(error: BaseException) -> bool:
    """Whether the error ends the workflow, by failure or by a client's cancellation.

    Any other only fails a workflow task, which Temporal tries again, or is the worker evicting the workflow from its
    cache: to undo then would undo live work.
    """
    if isinstance(error, GeneratorExit):  # a stopped worker lets go of it, outside of any workflow
        return False
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


def retry_of(error: ActivityError) -> RetrySchedule | None:
    """How often this trouble is tried; None where it is final: an answer, or a cancellation."""
    cause = error.cause
    if isinstance(cause, ActivityTimeoutError):
        return TIMEOUT
    if isinstance(cause, ApplicationError) and not cause.non_retryable:
        return TROUBLE.get(cause.type or "", NETWORK)
    return None


def is_domain_error(error: ActivityError, kind: type[DomainError]) -> bool:
    """Whether the activity answered with this error."""
    return isinstance(_domain_error(error), kind)


def words(error: BaseException) -> str:
    """The error in words for a user."""
    if is_cancelled_exception(error):
        return _CANCELLED
    domain_error = _domain_error(error)
    return _UNKNOWN if domain_error is None else domain_error.message


def _domain_error(error: BaseException) -> DomainError | None:
    """The answer behind the error; None where it is mere trouble."""
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
