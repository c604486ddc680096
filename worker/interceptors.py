"""The one translator at Temporal's border: answers leave typed and final, trouble in safe words with its next try."""

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


class ErrorTranslation(Interceptor):
    """Put it on every worker."""

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
            raise  # Temporal's own words already
        except DomainError as error:
            kind = classify_refusal(error)
            if kind is not None:
                record_refusal(kind, code=error.code.value)
            raise as_answer(error) from error
        except Exception as error:
            raise _as_trouble(error) from error


class _Workflows(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        return await _translated(super().execute_workflow(input))

    def handle_update_validator(self, input: HandleUpdateInput) -> None:
        try:
            super().handle_update_validator(input)
        except DomainError as error:
            raise as_answer(error) from error

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        return await _translated(super().handle_update_handler(input))


async def _translated(work: Awaitable[Outcome]) -> Outcome:
    try:
        return await work
    except DomainError as error:
        raise as_answer(error) from error


def as_answer(error: DomainError) -> ApplicationError:
    """The error as Temporal carries it: its record, its class's name as the type, and never tried again."""
    return ApplicationError(
        error.message,
        to_record(error),
        type=type(error).__name__,
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,  # an answer is no news for the worker's log
    )


def _as_trouble(error: Exception) -> ApplicationError:
    """Named by its class, in safe words for whoever reads the operation; the raw ones go to the log only."""
    info = activity.info()
    trouble = classify(error)
    log.warning(
        "an activity ran into trouble",
        activity=info.activity_type,
        workflow_id=info.workflow_id,
        attempt=info.attempt,
        trouble=trouble.retry.name,
        exc_info=error,
    )
    known = [] if trouble.answer is None else [to_record(trouble.answer)]
    by_class = _is_tried_by_class(info)
    return ApplicationError(
        trouble.message,
        *known,
        type=trouble.retry.name,
        non_retryable=by_class and info.attempt >= trouble.retry.max_attempts,
        next_retry_delay=trouble.retry.delay(info.attempt) if by_class else None,
    )


def _is_tried_by_class(info: activity.Info) -> bool:
    """Whether Temporal tries it again as often as its class of trouble says.

    A call of one try is tried again by its workflow, and one of more tries than any class has, an undo, by its policy.
    """
    tries = info.retry_policy.maximum_attempts if info.retry_policy else 0
    return 1 < tries <= EXTERNAL.max_attempts
