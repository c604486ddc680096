"""Read the states of one operation from its Temporal history, page by page, with a long-poll."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from temporalio.client import Client, WorkflowHistoryEventAsyncIterator
from temporalio.service import RPCError, RPCStatusCode

from contracts.operations import Operation, OperationStatus
from infrastructure.temporal.operation_history import HistoryReducer, run_number

DESCRIBE_TIMEOUT = timedelta(seconds=6)
_LONG_POLL_TIMEOUT = timedelta(seconds=60)
_LATE_COMPLETION_SECONDS = 1.0
"""A completion that is read later than this may be followed by another run, for example after a reset."""


class HistoryPage(NamedTuple):
    """States of an operation, oldest first.

    ``delay_seconds`` is the time between the last event of the page and its arrival in this process.
    """

    states: Sequence[Operation] = ()
    delay_seconds: float = 0.0


class HistoryPoll:
    """Long-poll of one operation's history: reads the current run from its start, then the runs that continue it."""

    def __init__(self, client: Client, operation_id: str) -> None:
        self._client = client
        self._id = operation_id
        self._pages: WorkflowHistoryEventAsyncIterator | None = None
        self._reducer = HistoryReducer(operation_id, client.data_converter, self._run_number)
        self._run_id: str | None = None
        self._page_token: bytes | None = None

    async def read_page(self) -> HistoryPage:
        """Wait for further events and return the states that they contain.

        After an error, the next call continues after the last page.

        Raises:
            RPCError: the call to Temporal failed.
        """
        pages, self._pages = self._pages or self._open(), None
        await pages.fetch_next_page()
        events = pages.current_page or ()
        delay = time.time() - events[-1].event_time.ToMilliseconds() / 1000 if events else 0.0
        try:
            states = await self._reducer.reduce(events)
            is_continued = bool(states) and await self._has_later_run(
                states[-1], is_late=delay > _LATE_COMPLETION_SECONDS
            )
        except RPCError:
            self._restart()
            raise
        if is_continued:
            self._restart()
            return HistoryPage()
        self._page_token = pages.next_page_token
        if self._reducer.next_run_id is not None:
            self._run_id, self._page_token, self._reducer.next_run_id = self._reducer.next_run_id, None, None
        if self._page_token is not None:
            self._pages = pages
        return HistoryPage(states, delay)

    def discard_page_token(self) -> None:
        """Read the current run from its first event again, because a restarted server does not know the page token."""
        self._page_token = None

    def _restart(self) -> None:
        """Discard all progress and read the history of the current run from its first event."""
        self._reducer = HistoryReducer(self._id, self._client.data_converter, self._run_number)
        self._run_id = self._page_token = None

    def _open(self) -> WorkflowHistoryEventAsyncIterator:
        return self._client.get_workflow_handle(self._id, run_id=self._run_id).fetch_history_events(
            next_page_token=self._page_token, wait_new_event=True, skip_archival=True, rpc_timeout=_LONG_POLL_TIMEOUT
        )

    async def _has_later_run(self, latest: Operation, *, is_late: bool) -> bool:
        """Return whether another run continues the operation, for example after a reset.

        A completion that arrives without delay is the end of the operation. The first page always belongs to the
        current run.
        """
        is_certain = latest.state.status is OperationStatus.COMPLETED and not is_late
        if not latest.is_closed or is_certain or (self._page_token is None and self._run_id is None):
            return False
        try:
            current = await self._client.get_workflow_handle(self._id).describe(rpc_timeout=DESCRIBE_TIMEOUT)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:  # Temporal no longer retains the operation
                return False
            raise
        return current.run_id != latest.run_id

    async def _run_number(self, run_id: str) -> int:
        run = self._client.get_workflow_handle(self._id, run_id=run_id)
        return run_number(await run.describe(rpc_timeout=DESCRIBE_TIMEOUT))
