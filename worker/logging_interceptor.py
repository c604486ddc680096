"""Log the end of each operation and each activity, with its duration, outcome, user and tenant."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import structlog
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import SearchAttributeKey
from temporalio.converter import PayloadConverter
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    StartActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.workflow import ActivityHandle, Info

from contracts.operations import ATTRIBUTE_TENANTS, ATTRIBUTE_USER
from infrastructure.observability.audit import AuditEvent, record_audit_event
from infrastructure.observability.logging import LOG_CONTEXT_HEADER, log_context
from worker.metrics import is_undo

_USER = SearchAttributeKey.for_keyword(ATTRIBUTE_USER)
_TENANTS = SearchAttributeKey.for_keyword_list(ATTRIBUTE_TENANTS)
_UNENCRYPTED = PayloadConverter.default

log = structlog.get_logger(__name__)


class LoggingInterceptor(Interceptor):
    """Binds the log context of each activity and logs its end. It wraps the interceptors that log."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Activities(next)

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: ARG002
    ) -> type[WorkflowInboundInterceptor]:
        return _Workflows


def log_operation_closed(info: Info, outcome: str) -> None:
    """Log that a workflow closed: ``completed``, ``failed`` or ``cancelled``."""
    seconds = (datetime.now(UTC) - info.start_time).total_seconds()
    log.info(
        "operation_closed",
        workflow_id=info.workflow_id,
        outcome=outcome,
        duration_ms=round(seconds * 1000),
        **_log_context_of(info),
    )


class _Activities(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> object:
        info = activity.info()
        header = input.headers.get(LOG_CONTEXT_HEADER)
        context: dict[str, str] = _UNENCRYPTED.from_payload(header) if header else {}
        started, outcome = time.perf_counter(), "cancelled"
        with log_context(**context, workflow_id=info.workflow_id, activity=info.activity_type, attempt=info.attempt):
            try:
                result: object = await super().execute_activity(input)
                outcome = "completed"
            except Exception as error:
                outcome = f"failed: {(isinstance(error, ApplicationError) and error.type) or type(error).__name__}"
                raise
            finally:
                log.info(
                    "activity_ended", outcome=outcome, duration_ms=round((time.perf_counter() - started) * 1000, 1)
                )
                if is_undo(info):
                    record_audit_event(AuditEvent.COMPENSATED, outcome=outcome)
        return result


class _Workflows(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound))


class _Outbound(WorkflowOutboundInterceptor):
    """Passes the log context of the workflow to its activities, in a header."""

    def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:
        input.headers = {**input.headers, LOG_CONTEXT_HEADER: _UNENCRYPTED.to_payload(_log_context_of(workflow.info()))}
        return super().start_activity(input)


def _log_context_of(info: Info) -> dict[str, str]:
    """Return the log context of the request that started the workflow, with its user and tenant."""
    header: Payload | None = info.headers.get(LOG_CONTEXT_HEADER)
    context: dict[str, str] = _UNENCRYPTED.from_payload(header) if header else {}
    user, tenants = info.typed_search_attributes.get(_USER), info.typed_search_attributes.get(_TENANTS)
    if user:
        context["user"] = user
    if tenants:
        context["tenant"] = tenants[0]
    return context
