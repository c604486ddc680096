"""What a stack in this process does for a request: calls of services, of Temporal and of the database."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from temporalio.client import (
    CancelWorkflowInput,
    DescribeWorkflowInput,
    FetchWorkflowHistoryEventsInput,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    StartWorkflowUpdateInput,
    WorkflowExecutionDescription,
    WorkflowHandle,
    WorkflowHistoryEventAsyncIterator,
    WorkflowUpdateHandle,
)


class Counts(logging.Handler):
    """How often each thing was done since it was last asked; statements as Tortoise's log has them."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._done: Counter[str] = Counter()

    def add(self, what: str) -> None:
        self._done[what] += 1

    def emit(self, record: logging.LogRecord) -> None:
        statement = str(record.args[0]) if isinstance(record.args, tuple) and record.args else str(record.msg)
        self.add(f"sql {statement}")

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Filled when the block ends."""
        self._done.clear()
        done: Counter[str] = Counter()
        yield done
        done.update(self._done)

    @contextmanager
    def of_statements(self) -> Iterator[None]:
        log = logging.getLogger("tortoise.db_client")
        before = log.level
        log.addHandler(self)
        log.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            log.setLevel(before)
            log.removeHandler(self)


class CountingTransport(httpx.AsyncBaseTransport):
    def __init__(self, inner: httpx.AsyncBaseTransport, counts: Counts) -> None:
        self._inner = inner
        self._counts = counts

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._counts.add(request.url.path)
        return await self._inner.handle_async_request(request)


class TemporalCounts(Interceptor):
    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Counting(next, self._counts)


class _Counting(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, counts: Counts) -> None:
        super().__init__(next)
        self._counts = counts

    async def describe_workflow(self, input: DescribeWorkflowInput) -> WorkflowExecutionDescription:
        self._counts.add("temporal describe")
        return await super().describe_workflow(input)

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        self._counts.add("temporal start")
        return await super().start_workflow(input)

    async def cancel_workflow(self, input: CancelWorkflowInput) -> None:
        self._counts.add("temporal cancel")
        await super().cancel_workflow(input)

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        self._counts.add("temporal update")
        return await super().start_workflow_update(input)

    def fetch_workflow_history_events(
        self, input: FetchWorkflowHistoryEventsInput
    ) -> WorkflowHistoryEventAsyncIterator:
        self._counts.add("temporal history")
        return super().fetch_workflow_history_events(input)
