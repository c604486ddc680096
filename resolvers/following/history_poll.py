"""The states of one operation as its history contains them, read page by page with a long-poll."""

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
_LATE_SECONDS = 1.0
"""A completion that is read this long after it was written may be followed by another run, as after a reset."""


class Page(NamedTuple):
    """``states`` are in order; ``delay_seconds`` lie between the time of the last event and its arrival here."""

    states: Sequence[Operation] = ()
    delay_seconds: float = 0.0


class HistoryPoll:
    """Reads from the first event of the current run, and continues with the runs that follow it."""

    def __init__(self, client: Client, operation_id: str) -> None:
        self._client = client
        self._id = operation_id
        self._poll: WorkflowHistoryEventAsyncIterator | None = None
        self._history = HistoryReducer(operation_id, client.data_converter, self._run_number)
        self._run_id: str | None = None
        self._token: bytes | None = None

    async def read(self) -> Page:
        """Wait for further events and return their states. After an error it continues behind the last page."""
        poll, self._poll = self._poll or self._open(), None
        await poll.fetch_next_page()
        events = poll.current_page or ()
        delay = time.time() - events[-1].event_time.ToMilliseconds() / 1000 if events else 0.0
        try:
            states = await self._history.reduce(events)
            is_continued = bool(states) and await self._has_later_run(states[-1], is_late=delay > _LATE_SECONDS)
        except RPCError:
            self._begin_anew()
            raise
        if is_continued:
            self._begin_anew()
            return Page()
        self._token = poll.next_page_token
        if self._history.next_run_id is not None:
            self._run_id, self._token, self._history.next_run_id = self._history.next_run_id, None, None
        if self._token is not None:
            self._poll = poll
        return Page(states, delay)

    def forget_token(self) -> None:
        """Read the run from its beginning, because a restarted server does not know the token."""
        self._token = None

    def _begin_anew(self) -> None:
        """Read the history of the current run from its beginning."""
        self._history = HistoryReducer(self._id, self._client.data_converter, self._run_number)
        self._run_id = self._token = None

    def _open(self) -> WorkflowHistoryEventAsyncIterator:
        return self._client.get_workflow_handle(self._id, run_id=self._run_id).fetch_history_events(
            next_page_token=self._token, wait_new_event=True, skip_archival=True, rpc_timeout=_LONG_POLL_TIMEOUT
        )

    async def _has_later_run(self, latest: Operation, *, is_late: bool) -> bool:
        """Whether another run continues the operation, as after a reset. A completion that arrives at once is the end.

        The first poll always reads the current run.
        """
        is_certain = latest.state.status is OperationStatus.COMPLETED and not is_late
        if not latest.is_closed or is_certain or (self._token is None and self._run_id is None):
            return False
        try:
            current = await self._client.get_workflow_handle(self._id).describe(rpc_timeout=DESCRIBE_TIMEOUT)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:  # Temporal does not retain it any more
                return False
            raise
        return current.run_id != latest.run_id

    async def _run_number(self, run_id: str) -> int:
        run = self._client.get_workflow_handle(self._id, run_id=run_id)
        return run_number(await run.describe(rpc_timeout=DESCRIBE_TIMEOUT))
