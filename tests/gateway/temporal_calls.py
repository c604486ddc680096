"""A Temporal client interceptor that counts calls, delays them or makes them fail."""

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
    """Counts starts, descriptions and visibility requests of one process.

    While ``is_unavailable`` is set, every call fails. ``delay_seconds`` delays each call. ``max_concurrent`` is the
    highest number of concurrent descriptions.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.is_unavailable = False
        self.delay_seconds = 0.0
        self.running = 0
        self.max_concurrent = 0
        self._failing: dict[str, list[RPCStatusCode]] = {}

    def fail(self, call: str, status: RPCStatusCode, times: int) -> None:
        """Make the next calls of this kind fail with the status."""
        self._failing[call] = [status] * times

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Counting(next, self)

    async def record(self, call: str) -> None:
        """Count a call, delay it and raise the error that the test asked for."""
        self.counts[call] += 1
        await asyncio.sleep(self.delay_seconds)
        if self.is_unavailable:
            raise RPCError("unavailable", RPCStatusCode.UNAVAILABLE, b"")
        if failing := self._failing.get(call):
            raise RPCError("failed by the test", failing.pop(), b"")


class _Counting(OutboundInterceptor):
    """Records each call before it reaches Temporal."""

    def __init__(self, next: OutboundInterceptor, calls: TemporalCalls) -> None:
        super().__init__(next)
        self._calls = calls

    async def describe_workflow(self, input: DescribeWorkflowInput) -> WorkflowExecutionDescription:
        self._calls.running += 1
        self._calls.max_concurrent = max(self._calls.max_concurrent, self._calls.running)
        try:
            await self._calls.record("describe")
            return await super().describe_workflow(input)
        finally:
            self._calls.running -= 1

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        await self._calls.record("start")
        return await super().start_workflow(input)

    def list_workflows(self, input: ListWorkflowsInput) -> WorkflowExecutionAsyncIterator:
        return _CountingPages(super().list_workflows(input), self._calls)


class _CountingPages(WorkflowExecutionAsyncIterator):
    """Records each request for a page of visibility results."""

    def __init__(self, pages: WorkflowExecutionAsyncIterator, calls: TemporalCalls) -> None:
        super().__init__(pages._client, pages._input)  # noqa: SLF001 - the SDK returns pages only as this class
        self._calls = calls

    async def fetch_next_page(self, *, page_size: int | None = None) -> None:
        await self._calls.record("list")
        await super().fetch_next_page(page_size=page_size)
