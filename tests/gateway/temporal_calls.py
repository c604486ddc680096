"""How often a process calls Temporal, and what becomes of those calls where a test has a say."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from temporalio.client import (
    DescribeWorkflowInput,
    Interceptor,
    ListWorkflowsInput,
    OutboundInterceptor,
    StartWorkflowInput,
    WorkflowExecutionAsyncIterator,
    WorkflowExecutionDescription,
    WorkflowHandle,
)
from temporalio.service import RPCError, RPCStatusCode


class TemporalCalls(Interceptor):
    """Counts one process's starts, descriptions and visibility requests. ``away``: they fail; ``slow``: seconds each
    takes; ``most_at_once``: descriptions."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.away = False
        self.slow = 0.0
        self.under_way = 0
        self.most_at_once = 0
        self._failing: dict[str, list[RPCStatusCode]] = {}

    def fail(self, call: str, status: RPCStatusCode, times: int) -> None:
        """Let the next calls of this kind fail."""
        self._failing[call] = [status] * times

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Counting(next, self)

    async def note(self, call: str) -> None:
        self.counts[call] += 1
        await asyncio.sleep(self.slow)
        if self.away:
            raise RPCError("unavailable", RPCStatusCode.UNAVAILABLE, b"")
        if failing := self._failing.get(call):
            raise RPCError("out of order", failing.pop(), b"")


class _Counting(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, calls: TemporalCalls) -> None:
        super().__init__(next)
        self._calls = calls

    async def describe_workflow(self, input: DescribeWorkflowInput) -> WorkflowExecutionDescription:
        self._calls.under_way += 1
        self._calls.most_at_once = max(self._calls.most_at_once, self._calls.under_way)
        try:
            await self._calls.note("describe")
            return await super().describe_workflow(input)
        finally:
            self._calls.under_way -= 1

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        await self._calls.note("start")
        return await super().start_workflow(input)

    def list_workflows(self, input: ListWorkflowsInput) -> WorkflowExecutionAsyncIterator:
        return _CountingPages(super().list_workflows(input), self._calls)


class _CountingPages(WorkflowExecutionAsyncIterator):
    def __init__(self, pages: WorkflowExecutionAsyncIterator, calls: TemporalCalls) -> None:
        super().__init__(pages._client, pages._input)  # noqa: SLF001 - the SDK hands pages out in this class alone
        self._calls = calls

    async def fetch_next_page(self, *, page_size: int | None = None) -> None:
        await self._calls.note("list")
        await super().fetch_next_page(page_size=page_size)
