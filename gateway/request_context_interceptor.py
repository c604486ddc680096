"""Pass request, client and account to the operations that they start, for the log lines of the steps."""

from __future__ import annotations

from typing import Any

from temporalio.client import Interceptor, OutboundInterceptor, StartWorkflowInput, WorkflowHandle
from temporalio.converter import PayloadConverter

from infrastructure.observability.logging import LOG_CONTEXT_HEADER, get_bound

_HANDED_ON = ("request_id", "client", "account")
"""An id and digests: every reader of Temporal's histories may see them."""


class RequestContextInterceptor(Interceptor):
    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Starts(next)


class _Starts(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        facts = {name: fact for name in _HANDED_ON if (fact := get_bound(name)) is not None}
        if facts:
            input.headers = {**input.headers, LOG_CONTEXT_HEADER: PayloadConverter.default.to_payload(facts)}
        return await super().start_workflow(input)
