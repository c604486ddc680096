"""The history long-polls and descriptions of one client of Temporal, which a test counts, holds up and has fail."""

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


class Polls(Interceptor):
    """``started``: how many histories were begun to be read. ``failing``: what the next pages fail with, of whatever
    history. ``may_fetch``: no page is asked for while it is clear. ``forget_tokens``: as a server does that restarts.
    """

    def __init__(self) -> None:
        self.started = 0
        self.failed = 0
        self.failing: list[RPCError] = []
        self.may_fetch = asyncio.Event()
        self.may_fetch.set()
        self.descriptions: list[WorkflowExecutionDescription] = []
        self._knows_tokens = True

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _ObservedPolls(next, self)

    def fail(self, status: RPCStatusCode, times: int) -> None:
        self.failing += [RPCError("out of order", status, b"") for _ in range(times)]

    def forget_tokens(self) -> None:
        self._knows_tokens = False

    def check(self, token: bytes | None) -> None:
        """Raise what the page with this token fails with."""
        error = self.failing.pop(0) if self.failing else None
        if error is None and token and not self._knows_tokens:
            error = RPCError("unknown token", RPCStatusCode.INVALID_ARGUMENT, b"")
        if error is not None:
            self.failed += 1
            raise error
        self._knows_tokens = True


class _ObservedPolls(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, polls: Polls) -> None:
        super().__init__(next)
        self._polls = polls

    def fetch_workflow_history_events(
        self, input: FetchWorkflowHistoryEventsInput
    ) -> WorkflowHistoryEventAsyncIterator:
        self._polls.started += 1
        return _ObservedPages(super().fetch_workflow_history_events(input), self._polls)

    async def describe_workflow(self, input: DescribeWorkflowInput) -> WorkflowExecutionDescription:
        description = await super().describe_workflow(input)
        self._polls.descriptions.append(description)
        return description


class _ObservedPages(WorkflowHistoryEventAsyncIterator):
    def __init__(self, pages: WorkflowHistoryEventAsyncIterator, polls: Polls) -> None:
        super().__init__(pages._client, pages._input)  # noqa: SLF001 - the SDK hands pages out in this class alone
        self._polls = polls

    async def fetch_next_page(self, *, page_size: int | None = None) -> None:
        await self._polls.may_fetch.wait()
        self._polls.check(self.next_page_token)
        await super().fetch_next_page(page_size=page_size)


def with_polls(client: Client) -> tuple[Client, Polls]:
    """The client, observed."""
    polls = Polls()
    config = client.config()
    config["interceptors"] = [*config["interceptors"], polls]
    return Client(**config), polls
