"""A Temporal client whose history long-polls and describe calls a test counts, delays and lets fail."""

from __future__ import annotations

import asyncio

from temporalio.client import (
    Client,
    DescribeWorkflowInput,
    FetchWorkflowHistoryEventsInput,
    Interceptor,
    OutboundInterceptor,
    WorkflowExecutionDescription,
    WorkflowHistoryEventAsyncIterator,
)
from temporalio.service import RPCError, RPCStatusCode


class RecordedCalls(Interceptor):
    """Interceptor that records and controls the calls of one Temporal client.

    Attributes:
        poll_count: Number of history long-polls that were started.
        error_count: Number of pages that failed.
        errors: Errors of the next pages, of any history.
        may_fetch: No page is fetched while this event is not set.
        descriptions: Results of all describe calls.
    """

    def __init__(self) -> None:
        self.poll_count = 0
        self.error_count = 0
        self.errors: list[RPCError] = []
        self.may_fetch = asyncio.Event()
        self.may_fetch.set()
        self.descriptions: list[WorkflowExecutionDescription] = []
        self._accepts_tokens = True

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _RecordingClient(next, self)

    def fail(self, status: RPCStatusCode, times: int) -> None:
        """Let the next pages fail with this status."""
        self.errors += [RPCError("injected error", status, b"") for _ in range(times)]

    def invalidate_page_tokens(self) -> None:
        """Reject the current page tokens, as a restarted server does."""
        self._accepts_tokens = False

    def raise_error(self, token: bytes | None) -> None:
        """Raise the error of the page with this token, if it has one."""
        error = self.errors.pop(0) if self.errors else None
        if error is None and token and not self._accepts_tokens:
            error = RPCError("unknown token", RPCStatusCode.INVALID_ARGUMENT, b"")
        if error is not None:
            self.error_count += 1
            raise error
        self._accepts_tokens = True


class _RecordingClient(OutboundInterceptor):
    """Client of Temporal that reports its calls to ``RecordedCalls``."""

    def __init__(self, next: OutboundInterceptor, calls: RecordedCalls) -> None:
        super().__init__(next)
        self._calls = calls

    def fetch_workflow_history_events(
        self, input: FetchWorkflowHistoryEventsInput
    ) -> WorkflowHistoryEventAsyncIterator:
        self._calls.poll_count += 1
        return _RecordingPages(super().fetch_workflow_history_events(input), self._calls)

    async def describe_workflow(self, input: DescribeWorkflowInput) -> WorkflowExecutionDescription:
        description = await super().describe_workflow(input)
        self._calls.descriptions.append(description)
        return description


class _RecordingPages(WorkflowHistoryEventAsyncIterator):
    """Pages of a history that fail and wait as ``RecordedCalls`` says."""

    def __init__(self, pages: WorkflowHistoryEventAsyncIterator, calls: RecordedCalls) -> None:
        super().__init__(pages._client, pages._input)  # noqa: SLF001 - the SDK has no public constructor
        self._calls = calls

    async def fetch_next_page(self, *, page_size: int | None = None) -> None:
        await self._calls.may_fetch.wait()
        self._calls.raise_error(self.next_page_token)
        await super().fetch_next_page(page_size=page_size)


def with_recorded_calls(client: Client) -> tuple[Client, RecordedCalls]:
    """Return a copy of the client and the record of its calls."""
    calls = RecordedCalls()
    config = client.config()
    config["interceptors"] = [*config["interceptors"], calls]
    return Client(**config), calls
