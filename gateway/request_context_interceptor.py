"""A Temporal client interceptor that passes request id, client and account to the workflows that a request starts."""

from __future__ import annotations

from typing import Any

from temporalio.client import Interceptor, OutboundInterceptor, StartWorkflowInput, WorkflowHandle
from temporalio.converter import PayloadConverter

from infrastructure.observability.logging import LOG_CONTEXT_HEADER, get_bound

_PASSED_FIELDS = ("request_id", "client", "account")
"""The log fields that a workflow receives: an id and digests, which every reader of Temporal's histories may see."""


class RequestContextInterceptor(Interceptor):
    """Adds the log fields of the current request to the header of each started workflow.

    The worker writes them into the log lines of the workflow's activities.
    """

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _StartInterceptor(next)


class _StartInterceptor(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        fields = {name: value for name in _PASSED_FIELDS if (value := get_bound(name)) is not None}
        if fields:
            input.headers = {**input.headers, LOG_CONTEXT_HEADER: PayloadConverter.default.to_payload(fields)}
        return await super().start_workflow(input)
