"""Lines about operations and their steps: on whose behalf they run, how long they took and how they ended."""

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
_PLAIN = PayloadConverter.default

log = structlog.get_logger(__name__)


class LoggingInterceptor(Interceptor):
    """Put it on every worker, around all that writes lines."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Activities(next)

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: ARG002
    ) -> type[WorkflowInboundInterceptor]:
        return _Workflows


def operation_closed(info: Info, outcome: str) -> None:
    """Log that a workflow closed: ``completed``, ``failed`` or ``cancelled``."""
    seconds = (datetime.now(UTC) - info.start_time).total_seconds()
    log.info(
        "operation closed",
        workflow_id=info.workflow_id,
        outcome=outcome,
        duration_ms=round(seconds * 1000),
        **_on_behalf(info),
    )


class _Activities(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> object:
        info = activity.info()
        told = input.headers.get(LOG_CONTEXT_HEADER)
        on_behalf: dict[str, str] = _PLAIN.from_payload(told) if told else {}
        began, outcome = time.perf_counter(), "cancelled"
        with log_context(**on_behalf, workflow_id=info.workflow_id, activity=info.activity_type, attempt=info.attempt):
            try:
                result: object = await super().execute_activity(input)
                outcome = "completed"
            except Exception as error:
                outcome = f"failed: {(isinstance(error, ApplicationError) and error.type) or type(error).__name__}"
                raise
            finally:
                log.info("activity ended", outcome=outcome, duration_ms=round((time.perf_counter() - began) * 1000, 1))
                if is_undo(info):
                    record_audit_event(AuditEvent.COMPENSATED, outcome=outcome)
        return result


class _Workflows(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Calls(outbound))


class _Calls(WorkflowOutboundInterceptor):
    """Hands on to each step on whose behalf it is run."""

    def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:
        input.headers = {**input.headers, LOG_CONTEXT_HEADER: _PLAIN.to_payload(_on_behalf(workflow.info()))}
        return super().start_activity(input)


def _on_behalf(info: Info) -> dict[str, str]:
    told: Payload | None = info.headers.get(LOG_CONTEXT_HEADER)
    on_behalf: dict[str, str] = _PLAIN.from_payload(told) if told else {}
    user, tenants = info.typed_search_attributes.get(_USER), info.typed_search_attributes.get(_TENANTS)
    if user:
        on_behalf["user"] = user
    if tenants:
        on_behalf["tenant"] = tenants[0]
    return on_behalf
