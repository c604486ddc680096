"""Counters of calls to services, to Temporal and to the database, for a stack in this process."""

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
    """Number of calls by name since the last start of counting; SQL statements come from Tortoise's log."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._done: Counter[str] = Counter()

    def add(self, call_name: str) -> None:
        """Count a call."""
        self._done[call_name] += 1

    def emit(self, record: logging.LogRecord) -> None:
        """Count the SQL statement of a log record."""
        statement = str(record.args[0]) if isinstance(record.args, tuple) and record.args else str(record.msg)
        self.add(f"sql {statement}")

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Yield a counter that is filled when the block ends."""
        self._done.clear()
        counted: Counter[str] = Counter()
        yield counted
        counted.update(self._done)

    @contextmanager
    def counting_statements(self) -> Iterator[None]:
        """Count SQL statements while the block runs."""
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
    """An HTTP transport that counts requests by path."""

    def __init__(self, inner: httpx.AsyncBaseTransport, counts: Counts) -> None:
        self._inner = inner
        self._counts = counts

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._counts.add(request.url.path)
        return await self._inner.handle_async_request(request)


class TemporalCounts(Interceptor):
    """A Temporal client interceptor that counts calls by kind."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _CountingOutbound(next, self._counts)


class _CountingOutbound(OutboundInterceptor):
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
