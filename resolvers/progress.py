"""The hub: one watcher an operation, fed by one history long-poll, and any number of subscribers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

import structlog
from temporalio.client import Client, WorkflowHistoryEventAsyncIterator
from temporalio.service import RPCError, RPCStatusCode

from contracts.errors import OperationNotFound, ServiceUnavailable
from contracts.operations import Operation, OperationStatus, Position
from resolvers.history import History, operation_of
from resolvers.pending import never_falling

FIRST_STATE_SECONDS = 10.0
LINGER_SECONDS = 5.0
LOOK_IN_SECONDS = (0.5, 8.0)
"""Between two descriptions of an operation whose step takes long: at first, and at most while they tell nothing new."""
RPC_SECONDS = timedelta(seconds=8)
_LONG_POLL = timedelta(seconds=60)
_BACKOFF_SECONDS = (0.2, 10.0)

log = structlog.get_logger()


class ProgressHub:
    """All watchers of a process. Closing it ends every stream."""

    def __init__(self, client: Client, *, linger_seconds: float = LINGER_SECONDS) -> None:
        self._client = client
        self._linger_seconds = linger_seconds
        self._watchers: dict[str, Watcher] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        watchers = list(self._watchers.values())
        self._watchers.clear()
        for watcher in watchers:
            await watcher.stop()

    @property
    def watching(self) -> int:
        """How many operations have a watcher, the lingering ones included."""
        return len(self._watchers)

    async def watch(
        self, operation_id: str, *, after: Position | None = None, admit: Callable[[Operation], object] = bool
    ) -> AsyncGenerator[Operation]:
        """The operation as it stands, unless ``after`` is its position, then each newer state, to its close.

        A subscriber that is slow gets the newest state, not a queue of old ones. ``admit`` is shown the first state and
        raises where this subscriber may not see it. Raises OperationNotFound, and ServiceUnavailable where Temporal
        does not tell a first state within ten seconds.
        """
        watcher = self._join(operation_id)
        try:
            latest = await watcher.first(FIRST_STATE_SECONDS)
            admit(latest)
            while True:
                if after is None or latest.position.as_tuple() > after.as_tuple():
                    after = latest.position
                    yield latest
                elif latest.is_closed:
                    return
                else:
                    await watcher.changed(after)
                latest = watcher.latest
        finally:
            self._leave(operation_id, watcher)

    def _join(self, operation_id: str) -> Watcher:
        watcher = self._watchers.get(operation_id)
        if watcher is None or watcher.failed:
            watcher = self._watchers[operation_id] = Watcher(self._client, operation_id)
        watcher.subscribers += 1
        return watcher

    def _leave(self, operation_id: str, watcher: Watcher) -> None:
        watcher.subscribers -= 1
        if watcher.subscribers == 0:
            asyncio.get_running_loop().call_later(self._linger_seconds, self._retire, operation_id, watcher)

    def _retire(self, operation_id: str, watcher: Watcher) -> None:
        if watcher.subscribers == 0:
            if self._watchers.get(operation_id) is watcher:
                del self._watchers[operation_id]
            watcher.cancel()


class Watcher:
    """Follows one operation's history and keeps its newest state, the one slot that all its subscribers share."""

    def __init__(self, client: Client, operation_id: str) -> None:
        self._client = client
        self._id = operation_id
        self._latest: Operation | None = None
        self._error: BaseException | None = None
        self._news = asyncio.Event()
        self.subscribers = 0
        self._tasks = (
            asyncio.create_task(self._run(self._follow), name=f"watch {operation_id}"),
            asyncio.create_task(self._run(self._look_in), name=f"look in on {operation_id}"),
        )

    @property
    def latest(self) -> Operation:
        """The newest state; the watcher's error where it has one instead."""
        if self._error is not None:
            raise self._error
        assert self._latest is not None, "ask for the first state first"
        return self._latest

    @property
    def failed(self) -> bool:
        return self._error is not None

    async def first(self, seconds: float) -> Operation:
        """The newest state, waiting for the first one; ServiceUnavailable where none comes in time."""
        try:
            async with asyncio.timeout(seconds):
                while self._latest is None and self._error is None:
                    await self._news.wait()
        except TimeoutError as error:
            raise ServiceUnavailable(service="temporal") from error
        return self.latest

    async def changed(self, since: Position) -> None:
        """Wait for a newer state than ``since`` or for the watcher's error."""
        while self._error is None and self.latest.position.as_tuple() <= since.as_tuple():
            await self._news.wait()

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """End the watcher and, as lost connection rather than as an end, every stream that hangs on it."""
        self.cancel()
        await asyncio.wait(self._tasks)
        if self._latest is None or not self._latest.is_closed:
            self._fail(ServiceUnavailable(service="gateway"))

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, OperationNotFound):
                log.error("watcher_failed", operation_id=self._id, exc_info=error)
            self._fail(error)

    async def _follow(self) -> None:
        history = History(self._id, self._client.data_converter)
        run_id: str | None = None
        token: bytes | None = None
        failures = 0
        while True:
            poll = self._poll(run_id, token)
            try:
                await poll.fetch_next_page()
            except RPCError as error:
                if error.status == RPCStatusCode.NOT_FOUND:
                    raise OperationNotFound() from error
                failures += 1  # whatever ails Temporal, it is never an end
                await asyncio.sleep(_backoff(failures))
                continue
            failures = 0
            token = poll.next_page_token
            states = await history.fold(poll.current_page or ())
            for operation in states if self._latest else states[-1:]:
                self._publish(operation)
                await asyncio.sleep(0)  # who is waiting takes this state before the next one replaces it
                if operation.is_closed:
                    return
            if history.next_run_id is not None:
                run_id, token, history.next_run_id = history.next_run_id, None, None

    async def _look_in(self) -> None:
        """Describe the operation while a step takes long: soon again where that told something, else ever later."""
        first, most = LOOK_IN_SECONDS
        pause = first
        while self._latest is None or not self._latest.is_closed:
            before = self._latest
            await asyncio.sleep(pause)
            if before is None or self._latest is not before or before.state.status is not OperationStatus.RUNNING:
                pause = first
                continue
            try:
                description = await self._client.get_workflow_handle(self._id).describe(rpc_timeout=RPC_SECONDS)
                self._publish(await operation_of(description, self._client))
            except RPCError:
                pass  # the next look, or history, will tell
            pause = first if self._latest is not before else min(most, pause * 2)

    def _poll(self, run_id: str | None, token: bytes | None) -> WorkflowHistoryEventAsyncIterator:
        return self._client.get_workflow_handle(self._id, run_id=run_id).fetch_history_events(
            next_page_token=token, wait_new_event=True, skip_archival=True, rpc_timeout=_LONG_POLL
        )

    def _publish(self, operation: Operation) -> None:
        if self._latest is None:
            self._latest = operation
        elif operation.position.as_tuple() > self._latest.position.as_tuple():
            self._latest = never_falling(operation, self._latest)
        else:
            return
        self._tell()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _backoff(failures: int) -> float:
    """Seconds before the next poll: exponential with full jitter, so that replicas do not come back in step."""
    first, most = _BACKOFF_SECONDS
    return random.uniform(first / 2, min(most, first * 2**failures))  # noqa: S311 - jitter, not a secret
