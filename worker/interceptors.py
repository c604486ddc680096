"""The one translator at Temporal's border: answers leave typed and final, trouble in safe words with its next try."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, FailureError
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
from worker.trouble import class_of

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
    return ApplicationError(error.message, to_record(error), type=type(error).__name__, non_retryable=True)


def _as_trouble(error: Exception) -> ApplicationError:
    """Safe words for whoever reads the operation, raw ones for the log. Its type says how often to try again."""
    info = activity.info()
    trouble = class_of(error)
    log.warning(
        "an activity ran into trouble",
        activity=info.activity_type,
        workflow=info.workflow_id,
        attempt=info.attempt,
        trouble=trouble.retry.name,
        exc_info=error,
    )
    return ApplicationError(
        trouble.message,
        *([] if trouble.answer is None else [to_record(trouble.answer)]),
        type=trouble.retry.name,
    )
