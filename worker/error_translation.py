"""Translate exceptions of activities and workflows into errors that Temporal stores.

A DomainError is final. Any other exception of an activity is retried, and its text is replaced by one without details.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, FailureError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    HandleUpdateInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from contracts.errors import DomainError, to_record
from infrastructure.observability.audit import classify_refusal, record_refusal
from worker.error_classification import classify
from workflows.options import EXTERNAL

Outcome = TypeVar("Outcome")

log = structlog.get_logger(__name__)


class ErrorTranslationInterceptor(Interceptor):
    """Translates the exceptions of a worker; every worker has one."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Activities(next)

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: ARG002
    ) -> type[WorkflowInboundInterceptor]:
        return _Workflows


class _Activities(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> object:
        try:
            return await super().execute_activity(input)
        except FailureError:
            raise  # already an error of Temporal
        except DomainError as error:
            kind = classify_refusal(error)
            if kind is not None:
                record_refusal(kind, code=error.code.value)
            raise to_application_error(error) from error
        except Exception as error:
            raise _fault_to_application_error(error) from error


class _Workflows(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        return await _translate_errors(super().execute_workflow(input))

    def handle_update_validator(self, input: HandleUpdateInput) -> None:
        try:
            super().handle_update_validator(input)
        except DomainError as error:
            raise to_application_error(error) from error

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        return await _translate_errors(super().handle_update_handler(input))


async def _translate_errors(work: Awaitable[Outcome]) -> Outcome:
    try:
        return await work
    except DomainError as error:
        raise to_application_error(error) from error


def to_application_error(error: DomainError) -> ApplicationError:
    """Return a non-retryable error of Temporal with the name of the class as its type and the ErrorRecord as detail."""
    return ApplicationError(
        error.message,
        to_record(error),
        type=type(error).__name__,
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,  # so that the SDK does not log it as an error
    )


def _fault_to_application_error(error: Exception) -> ApplicationError:
    """Log the exception; return an error of Temporal with the text for the user and the delay of the next attempt."""
    info = activity.info()
    classified = classify(error)
    log.warning(
        "activity_failed",
        activity=info.activity_type,
        workflow_id=info.workflow_id,
        attempt=info.attempt,
        error_class=classified.retry.name,
        exc_info=error,
    )
    details = [] if classified.final_error is None else [to_record(classified.final_error)]
    is_scheduled = _uses_retry_schedule(info)
    return ApplicationError(
        classified.message,
        *details,
        type=classified.retry.name,
        non_retryable=is_scheduled and info.attempt >= classified.retry.max_attempts,
        next_retry_delay=classified.retry.delay(info.attempt) if is_scheduled else None,
    )


def _uses_retry_schedule(info: activity.Info) -> bool:
    """Whether the class of the error decides the number and the delays of the attempts.

    The workflow retries a call with one attempt. An undo has more attempts than any class and follows its own policy.
    """
    tries = info.retry_policy.maximum_attempts if info.retry_policy else 0
    return 1 < tries <= EXTERNAL.max_attempts
