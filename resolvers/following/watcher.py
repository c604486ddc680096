"""A watcher: follows one operation and keeps its newest state for all who subscribe to it.

It waits for a wake-up and then reads the state. A wake-up is the answer to a history long-poll, while Temporal allows
one, which contains the states; else a change notification, or the end of an interval, and the operation is described.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum
from typing import NamedTuple, TypeAlias

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from contracts.errors import OperationNotFound, ServiceUnavailable
from contracts.operations import Operation, OperationStatus
from infrastructure.change_notifications import ChangeNotifier, wait_for_event
from infrastructure.tasks import BackgroundTasks
from infrastructure.temporal.operation_history import to_operation
from infrastructure.temporal.pending_activity import current_step
from infrastructure.topic_subscriptions import Subscription
from resolvers.following.history_poll import DESCRIBE_TIMEOUT, HistoryPoll
from resolvers.following.long_poll_quota import LongPollQuota
from resolvers.following.newest_state import NewestState, StateObserver

LOOK_IN_SECONDS = (0.5, 8.0)
"""Between two descriptions of an operation whose step takes long: at first, and at most while nothing has changed."""
_BACKOFF_SECONDS = (0.2, 10.0)
_AGAIN_SECONDS = (0.05, 0.2, 0.5, 1.0, 3.0)
"""Pauses after a notification whose change Temporal does not show yet: the notification may be quicker."""
_MAX_NOT_FOUND = 5
"""How often in a row an operation that was found before may be missing until it counts as gone."""
_NONE: tuple[float, ...] = ()

log = structlog.get_logger()


class Mode(StrEnum):
    STREAM = "STREAM"
    """A long-poll delivers each state as soon as it is written."""
    NOTIFIED = "NOTIFIED"
    """A change notification leads to a read; without one the operation is read at an interval."""
    INTERVAL = "INTERVAL"
    """The operation is read at an interval: no long-poll is free, and no change notifications arrive."""


class Delivery(NamedTuple):
    """How states arrive at the moment. ``interval_ms``: at most between two reads without a notification."""

    mode: Mode
    interval_ms: int | None


DelayObserver: TypeAlias = Callable[[float], None]
"""Receives the seconds between the time of an event in Temporal's history and the arrival of its state here."""


class Sources(NamedTuple):
    """What all watchers of a process share."""

    client: Client
    budget: LongPollQuota
    change_notifier: ChangeNotifier
    observe: StateObserver
    observe_delay: DelayObserver


class Watcher:
    """Follows one operation until it has closed, however many subscribe to its states."""

    def __init__(self, operation_id: str, sources: Sources) -> None:
        self._id = operation_id
        self._client, self._budget = sources.client, sources.budget
        self._change_notifier, self._observe_delay = sources.change_notifier, sources.observe_delay
        self._subscription: Subscription | None = None
        """None while a long-poll is held; afterwards the last one, also once the operation has closed."""
        self._is_in_touch = False
        self._not_found_in_a_row = 0
        self.state = NewestState(sources.observe)
        self.subscribers = 0
        self._tasks = BackgroundTasks()
        self._tasks.start(self._run(self._follow), name=f"watch {operation_id}")
        self._tasks.start(self._run(self._look_in), name=f"look in on {operation_id}")

    @property
    def is_over(self) -> bool:
        """Whether a new subscriber needs a new watcher."""
        return self.state.has_failed or self.state.is_stale

    @property
    def current(self) -> Operation | None:
        """The newest state; None while Temporal does not answer, or if there may be another run."""
        return self.state.operation if self._is_in_touch and not self.is_over else None

    @property
    def delivery(self) -> Delivery:
        if self._subscription is None:
            return Delivery(Mode.STREAM, None)
        mode = Mode.NOTIFIED if self._subscription.is_active else Mode.INTERVAL
        return Delivery(mode, round(self._interval * 1000))

    @property
    def _interval(self) -> float:
        is_notified = self._subscription is not None and self._subscription.is_active
        return self._budget.check_interval if is_notified else self._budget.interval

    async def stop(self) -> None:
        """End the watcher. Its streams end as with a lost connection, unless the operation has closed."""
        await self._tasks.aclose()
        if not self.state.is_closed:
            self.state.fail(ServiceUnavailable(service="gateway"))

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, OperationNotFound):
                log.error("watcher_failed", workflow_id=self._id, exc_info=error)
            self.state.fail(error)

    async def _follow(self) -> None:
        while not self.state.is_closed:
            if self._budget.take():
                self._subscription = None
                try:
                    await self._long_poll()
                finally:
                    self._budget.give_back()
            else:
                with (
                    self._change_notifier.subscribe_to_topic(self._id) as self._subscription,
                    self._budget.describing(),
                ):
                    await self._subscription.wait_until_active()
                    await self._read_at_wakeups(self._subscription)

    async def _long_poll(self) -> None:
        """Hold a long-poll until the operation has closed or Temporal refuses the long-poll."""
        failures, has_read, poll = 0, False, HistoryPoll(self._client, self._id)
        while not self.state.is_closed:
            try:
                page = await poll.read()
            except RPCError as error:
                if error.status == RPCStatusCode.RESOURCE_EXHAUSTED:
                    self._budget.refused()
                    return
                if error.status == RPCStatusCode.INVALID_ARGUMENT:
                    poll.forget_token()
                failures += 1  # whatever is wrong with Temporal, it is never an end
                self._tolerate(error)
                await asyncio.sleep(_backoff(failures))
                continue
            failures = 0
            self._note_answer()
            for operation in page.states if self.state.operation is not None else page.states[-1:]:
                await self.state.publish(operation)
                await asyncio.sleep(0)  # subscribers take this state before the next one replaces it
            if page.states and has_read:
                self._observe_delay(page.delay_seconds)
            has_read = True

    async def _read_at_wakeups(self, subscription: Subscription) -> None:
        """Read the state at each notification, and at an interval, until a long-poll is free."""
        failures, again = 0, iter(_NONE)
        while True:
            before = self.state.operation
            subscription.clear()
            try:
                await self._read()
            except RPCError as error:
                failures += 1
                self._tolerate(error)
            else:
                failures = 0
            if self.state.is_closed:
                return
            if self.state.operation is not before:
                again = iter(_NONE)
            pause = _backoff(failures) if failures else next(again, self._interval * random.uniform(0.8, 1))  # noqa: S311 - jitter
            if await wait_for_event(subscription.changed, pause) and subscription.is_notified:
                again = iter(_AGAIN_SECONDS)
            if self._budget.has_long_poll:
                return

    async def _read(self) -> None:
        """Read the state as it is now, with the retries and the heartbeat of its step."""
        async with self._budget.reading(is_first=self.state.operation is None):
            description = await self._client.get_workflow_handle(self._id).describe(rpc_timeout=DESCRIBE_TIMEOUT)
        self._note_answer()
        await self.state.publish(await to_operation(description, self._client))

    def _note_answer(self) -> None:
        self._is_in_touch, self._not_found_in_a_row = True, 0

    def _tolerate(self, error: RPCError) -> None:
        """Raise OperationNotFound if the operation was never found, or is missing too often in a row."""
        self._is_in_touch = False
        if error.status != RPCStatusCode.NOT_FOUND:
            self._not_found_in_a_row = 0
            return
        self._not_found_in_a_row += 1
        if self.state.operation is None or self._not_found_in_a_row > _MAX_NOT_FOUND:
            raise OperationNotFound() from error

    async def _look_in(self) -> None:
        """Read the operation while a step takes long, because history does not contain retries and heartbeats.

        Soon again if the last read brought something new, else after ever longer pauses.
        """
        first, most = LOOK_IN_SECONDS
        pause = first
        while not self.state.is_closed:
            before = self.state.operation
            if before is None or not _may_have_changed(before):
                await self.state.next()
                pause = first
                continue
            with self._budget.looking():
                await asyncio.sleep(self._budget.look_seconds(pause))
            if self.state.operation is before and self.delivery.mode is not Mode.INTERVAL:
                with suppress(RPCError):  # the next read follows
                    await self._read()
            pause = first if self.state.operation is not before else min(most, max(first, pause * 2))


def _may_have_changed(operation: Operation) -> bool:
    """Whether a step is under way, of which a description contains more than history."""
    return operation.state.status is OperationStatus.RUNNING and current_step(operation) is not None


def _backoff(failures: int) -> float:
    """Seconds before the next try: exponential with full jitter, so that replicas do not try in step."""
    first, most = _BACKOFF_SECONDS
    return random.uniform(first / 2, min(most, first * 2**failures))  # noqa: S311 - jitter, not a secret
