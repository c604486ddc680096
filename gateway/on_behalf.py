"""Operations are told which request started them, for what is written about their steps elsewhere."""

from __future__ import annotations

from typing import Any

from temporalio.client import Interceptor, OutboundInterceptor, StartWorkflowInput, WorkflowHandle
from temporalio.converter import PayloadConverter

from contracts.logs import HEADER, known_fact


class NamedRequests(Interceptor):
    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Starts(next)


class _Starts(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        request_id = known_fact("request_id")
        if request_id is not None:
            told = PayloadConverter.default.to_payload({"request_id": request_id})
            input.headers = {**input.headers, HEADER: told}
        return await super().start_workflow(input)
