"""A watcher: follows one operation and keeps its newest state for all who subscribe to it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple, TypeAlias

import structlog
from temporalio.client import Client, WorkflowHistoryEventAsyncIterator
from temporalio.service import RPCError, RPCStatusCode

from contracts.errors import OperationNotFound, ServiceUnavailable
from contracts.operations import Operation, OperationStatus, Position
from infrastructure.operation_history import History, operation_of, run_of
from infrastructure.pending_activity import never_falling, under_way
from infrastructure.tasks import BackgroundTasks
from resolvers.budget import Budget

LOOK_IN_SECONDS = (0.5, 8.0)
"""Between two descriptions of an operation whose step takes long: at first, and at most while they tell nothing new."""
RPC_SECONDS = timedelta(seconds=6)
_LONG_POLL = timedelta(seconds=60)
_ASKED_SECONDS = 60.0
"""How long one that was asked for is looked in on as if somebody subscribed."""
_BACKOFF_SECONDS = (0.2, 10.0)
_END_SECONDS = 1.0
"""How long a closed run counts as the end of the operation without a check for another run."""
_PATIENCE = 5
"""How often an operation that was there is looked for again before it counts as gone."""

log = structlog.get_logger()


class Mode(StrEnum):
    STREAM = "STREAM"
    """Each state comes the moment it is written."""
    INTERVAL = "INTERVAL"
    """The operation is looked at now and then, for Temporal allows no more long-polls."""


class Delivery(NamedTuple):
    """How states come at the moment."""

    mode: Mode
    interval_ms: int | None


StateObserver: TypeAlias = Callable[[Operation], Awaitable[None]]
"""Gets each new state before any subscriber does; returns quickly and raises nothing."""


async def ignore_state(_operation: Operation) -> None:
    """The state observer of a hub that has none."""


LagObserver: TypeAlias = Callable[[float], None]
"""Gets the seconds between the time of an event in Temporal's history and the arrival of its state here."""


def ignore_lag(_seconds: float) -> None:
    """The lag observer of a hub that has none."""


class Watcher:
    """Follows one operation's history and keeps its newest state, the one slot that all its subscribers share."""

    def __init__(
        self,
        client: Client,
        operation_id: str,
        budget: Budget,
        observe: StateObserver = ignore_state,
        lag: LagObserver = ignore_lag,
    ) -> None:
        self._lag = lag
        self._client = client
        self._id = operation_id
        self._budget = budget
        self._observe = observe
        self._history = History(operation_id, client.data_converter, self._run_of)
        self._run_id: str | None = None
        self._token: bytes | None = None
        self._latest: Operation | None = None
        self._error: BaseException | None = None
        self._over_since: float | None = None
        self._news = asyncio.Event()
        self.subscribers = 0
        self._onlookers = 0
        self._asked_until = 0.0
        self._wanted = asyncio.Event()
        self._is_looked_in_on = True
        self._in_touch = False
        self.delivery = Delivery(Mode.STREAM, None)
        self._tasks = BackgroundTasks()
        self._tasks.start(self._run(self._follow), name=f"watch {operation_id}")
        self._tasks.start(self._run(self._look_in), name=f"look in on {operation_id}")

    @property
    def latest(self) -> Operation:
        """The newest state; the watcher's error where it has one instead."""
        if self._error is not None:
            raise self._error
        assert self._latest is not None, "ask for the first state first"
        return self._latest

    @property
    def _is_over(self) -> bool:
        return self._latest is not None and self._latest.is_closed

    @property
    def is_stale(self) -> bool:
        """Whether the close was seen more than a second ago: a reset may have started another run since."""
        return self._over_since is not None and asyncio.get_running_loop().time() - self._over_since > _END_SECONDS

    @property
    def failed(self) -> bool:
        return self._error is not None

    def known(self) -> Operation | None:
        """The newest state, as long as Temporal keeps telling; from now on for a while it is looked in on.

        None where it is not yet, while a step is under way that history tells nothing of.
        """
        sees_all = self._is_looked_in_on or self._latest is None or under_way(self._latest) is None
        self._asked_until = asyncio.get_running_loop().time() + _ASKED_SECONDS
        self._wanted.set()
        return self._latest if sees_all and self._in_touch and not (self.failed or self.is_stale) else None

    def join(self, *, quietly: bool) -> None:
        """Take part; ``quietly``: without wanting to hear more than history tells."""
        self.subscribers += 1
        if not quietly:
            self._onlookers += 1
            self._wanted.set()

    def leave(self, *, quietly: bool) -> None:
        self.subscribers -= 1
        if not quietly:
            self._onlookers -= 1

    @property
    def _is_wanted(self) -> bool:
        return self._onlookers > 0 or asyncio.get_running_loop().time() < self._asked_until

    @property
    def streamed(self) -> Operation | None:
        """The newest state, as long as each comes the moment it is written."""
        is_quick = self._in_touch and not (self.failed or self.is_stale) and self.delivery.mode is Mode.STREAM
        return self._latest if is_quick else None

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

    async def stop(self) -> None:
        """End the watcher and, as lost connection rather than as an end, every stream that hangs on it."""
        await self._tasks.aclose()
        if not self._is_over:
            self._fail(ServiceUnavailable(service="gateway"))

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, OperationNotFound):
                log.error("watcher_failed", workflow_id=self._id, exc_info=error)
            self._fail(error)

    async def _follow(self) -> None:
        while not self._is_over:
            if self._budget.take():
                try:
                    await self._stream()
                finally:
                    self._budget.give_back()
            else:
                await self._describe_for_now()

    async def _stream(self) -> None:
        """Hold a long-poll until the operation has closed or Temporal refuses it."""
        self.delivery = Delivery(Mode.STREAM, None)
        failures = 0
        poll = self._poll()
        while not self._is_over:
            try:
                await poll.fetch_next_page()
                goes_on_elsewhere = await self._take_in(poll)
            except RPCError as error:
                if error.status == RPCStatusCode.RESOURCE_EXHAUSTED:
                    self._budget.refused()
                    return
                failures += 1  # whatever ails Temporal, it is never an end
                self._bear(error, failures)
                await asyncio.sleep(_backoff(failures))
                poll = self._poll()
                continue
            failures = 0
            if goes_on_elsewhere:
                poll = self._poll()

    async def _take_in(self, poll: WorkflowHistoryEventAsyncIterator) -> bool:
        """Tell of what has come. Whether it goes on elsewhere: in another run, or not at all."""
        events = poll.current_page or ()
        is_first = self._latest is None
        lag = time.time() - events[-1].event_time.ToMilliseconds() / 1000 if events else 0.0
        try:
            states = await self._history.fold(events)
            goes_on = bool(states) and await self._another_run_goes_on(states[-1], is_late=lag > _END_SECONDS)
        except RPCError:
            self._begin_anew()
            raise
        if goes_on:
            self._begin_anew()
            return True
        self._token, self._in_touch = poll.next_page_token, True
        for operation in states[-1:] if is_first else states:
            await self._publish(operation)
            await asyncio.sleep(0)  # who is waiting takes this state before the next one replaces it
        if states and not is_first:
            self._lag(lag)
        if self._history.next_run_id is not None:
            self._run_id, self._token, self._history.next_run_id = self._history.next_run_id, None, None
        return self._token is None

    def _begin_anew(self) -> None:
        """Read the history of the current run from its beginning."""
        self._history = History(self._id, self._client.data_converter, self._run_of)
        self._run_id = self._token = None

    async def _another_run_goes_on(self, latest: Operation, *, is_late: bool) -> bool:
        """Whether another run continues the operation, as after a reset. A completion that arrives at once is the end.

        The first poll always reads the current run.
        """
        is_certain = latest.state.status is OperationStatus.COMPLETED and not is_late
        if not latest.is_closed or is_certain or (self._token is None and self._run_id is None):
            return False
        try:
            current = await self._client.get_workflow_handle(self._id).describe(rpc_timeout=RPC_SECONDS)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:  # retention took it
                return False
            raise
        return current.run_id != latest.run_id

    async def _run_of(self, run_id: str) -> int:
        run = self._client.get_workflow_handle(self._id, run_id=run_id)
        return run_of(await run.describe(rpc_timeout=RPC_SECONDS))

    async def _describe_for_now(self) -> None:
        """Look at the operation at the shared interval, until a long-poll may be free."""
        async with self._described():
            failures = 0
            for _ in range(3):
                try:
                    await self._describe()
                    failures = 0
                except RPCError as error:
                    failures += 1
                    self._bear(error, failures)
                if self._is_over:
                    return
                await asyncio.sleep(self._budget.interval * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    @asynccontextmanager
    async def _described(self) -> AsyncIterator[None]:
        self._budget.described += 1
        self.delivery = Delivery(Mode.INTERVAL, round(self._budget.interval * 1000))
        try:
            yield
        finally:
            self._budget.described -= 1

    def _bear(self, error: RPCError, failures: int) -> None:
        """Raise only what no patience mends; a token that a restarted server does not know is done without."""
        self._in_touch = False
        if error.status == RPCStatusCode.NOT_FOUND and (self._latest is None or failures > _PATIENCE):
            raise OperationNotFound() from error
        if error.status == RPCStatusCode.INVALID_ARGUMENT:
            self._token = None

    async def _look_in(self) -> None:
        """Describe the operation while a step takes long: soon again where that told something, else ever later."""
        pause = LOOK_IN_SECONDS[0]
        while not self._is_over:
            if not self._is_wanted:
                self._is_looked_in_on = False
                self._wanted.clear()
                await self._wanted.wait()
                pause = 0.0  # it may have been long since anybody looked
            with self._budget.looking():
                await self._look_in_while_wanted(pause)

    async def _look_in_while_wanted(self, pause: float) -> None:
        first, most = LOOK_IN_SECONDS
        while self._is_wanted and not self._is_over:
            before = self._latest
            await asyncio.sleep(self._budget.look_seconds(pause))
            if before is None or self._latest is not before or not _may_tell_more(before):
                pause = first
                continue
            if self.delivery.mode is Mode.STREAM:
                with suppress(RPCError):  # the next look, or history, will tell
                    await self._describe()
                    self._is_looked_in_on = True
            pause = first if self._latest is not before else min(most, max(first, pause * 2))

    async def _describe(self) -> None:
        description = await self._client.get_workflow_handle(self._id).describe(rpc_timeout=RPC_SECONDS)
        await self._publish(await operation_of(description, self._client))

    def _poll(self) -> WorkflowHistoryEventAsyncIterator:
        return self._client.get_workflow_handle(self._id, run_id=self._run_id).fetch_history_events(
            next_page_token=self._token, wait_new_event=True, skip_archival=True, rpc_timeout=_LONG_POLL
        )

    async def _publish(self, operation: Operation) -> None:
        self._in_touch = True
        if self._is_news(operation):
            await self._observe(operation)
        if self._is_news(operation):  # still
            self._latest = operation if self._latest is None else never_falling(operation, self._latest)
            if self._latest.is_closed and self._over_since is None:
                self._over_since = asyncio.get_running_loop().time()
            self._tell()

    def _is_news(self, operation: Operation) -> bool:
        latest = self._latest
        if latest is None:
            return True
        is_same = operation.state == latest.state and operation.is_closed == latest.is_closed
        if is_same and operation.position.run != latest.position.run:  # a run that continues where another one ended
            return False
        return operation.position.as_tuple() > latest.position.as_tuple()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _may_tell_more(operation: Operation) -> bool:
    """Whether a description may tell what history does not."""
    return operation.state.status is OperationStatus.RUNNING and under_way(operation) is not None


def _backoff(failures: int) -> float:
    """Seconds before the next poll: exponential with full jitter, so that replicas do not come back in step."""
    first, most = _BACKOFF_SECONDS
    return random.uniform(first / 2, min(most, first * 2**failures))  # noqa: S311 - jitter, not a secret
