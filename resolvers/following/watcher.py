"""A watcher: follows one operation and holds its newest state for all subscribers.

It reads the state with a history long-poll while Temporal allows one. Otherwise it describes the workflow whenever a
change notification arrives, and at an interval.
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

HEARTBEAT_POLL_RANGE_SECONDS = (0.5, 8.0)
"""Minimum and maximum interval between two describe calls while a step runs; it grows while nothing changes."""
_BACKOFF_RANGE_SECONDS = (0.2, 10.0)
"""Minimum and maximum delay between two attempts after an error of Temporal."""
_REREAD_DELAYS_SECONDS = (0.05, 0.2, 0.5, 1.0, 3.0)
"""Delays of repeated reads after a notification, because it may arrive before Temporal shows the change."""
_MAX_CONSECUTIVE_NOT_FOUND = 5
"""Number of consecutive NOT_FOUND errors after which an operation that existed counts as deleted."""
_NO_DELAYS: tuple[float, ...] = ()

log = structlog.get_logger()


class DeliveryMode(StrEnum):
    """How the states of an operation arrive in this process."""

    STREAM = "STREAM"
    """A long-poll delivers each state as soon as it is written."""
    NOTIFIED = "NOTIFIED"
    """The operation is read after each change notification, and at an interval in case one is lost."""
    INTERVAL = "INTERVAL"
    """The operation is read at an interval: no long-poll is available, and no change notifications arrive."""


class Delivery(NamedTuple):
    """How states arrive at the moment; ``interval_ms`` is the maximum time between two reads without a notification."""

    mode: DeliveryMode
    interval_ms: int | None


DelayObserver: TypeAlias = Callable[[float], None]
"""Callback that receives the seconds between an event in Temporal's history and the arrival of its state here."""


class WatcherDependencies(NamedTuple):
    """Dependencies shared by all watchers of one process."""

    client: Client
    long_poll_quota: LongPollQuota
    change_notifier: ChangeNotifier
    on_state: StateObserver
    on_delay: DelayObserver


class Watcher:
    """Follows one operation until it closes and publishes its states to any number of subscribers."""

    def __init__(self, operation_id: str, dependencies: WatcherDependencies) -> None:
        self._id = operation_id
        self._client, self._quota = dependencies.client, dependencies.long_poll_quota
        self._change_notifier, self._on_delay = dependencies.change_notifier, dependencies.on_delay
        self._subscription: Subscription | None = None
        """None while a long-poll is held; otherwise the current or last subscription to change notifications."""
        self._is_connected = False
        self._consecutive_not_found = 0
        self.state = NewestState(dependencies.on_state)
        self.subscribers = 0
        self._tasks = BackgroundTasks()
        self._tasks.start(self._run(self._follow), name=f"watch {operation_id}")
        self._tasks.start(self._run(self._poll_heartbeats), name=f"poll heartbeats of {operation_id}")

    @property
    def needs_replacement(self) -> bool:
        """Whether a new subscriber needs a new watcher: this one has failed, or its final state may be outdated."""
        return self.state.has_failed or self.state.is_stale

    @property
    def current(self) -> Operation | None:
        """The newest state; None while Temporal is unavailable, or if there may be another run."""
        return self.state.operation if self._is_connected and not self.needs_replacement else None

    @property
    def delivery(self) -> Delivery:
        """How states arrive at the moment."""
        if self._subscription is None:
            return Delivery(DeliveryMode.STREAM, None)
        mode = DeliveryMode.NOTIFIED if self._subscription.is_active else DeliveryMode.INTERVAL
        return Delivery(mode, round(self._interval * 1000))

    @property
    def _interval(self) -> float:
        """Maximum seconds between two reads without a notification, if no long-poll is held."""
        is_notified = self._subscription is not None and self._subscription.is_active
        return self._quota.check_interval if is_notified else self._quota.interval

    async def stop(self) -> None:
        """Stop following. The streams of subscribers raise ServiceUnavailable unless the operation has closed."""
        await self._tasks.aclose()
        if not self.state.is_closed:
            self.state.fail(ServiceUnavailable(service="gateway"))

    async def _run(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run the task function and end all streams with its error if it fails."""
        try:
            await function()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, OperationNotFound):
                log.error("watcher_failed", workflow_id=self._id, exc_info=error)
            self.state.fail(error)

    async def _follow(self) -> None:
        """Read states until the operation closes: with a long-poll if available, otherwise with describe calls."""
        while not self.state.is_closed:
            if self._quota.acquire():
                self._subscription = None
                try:
                    await self._long_poll()
                finally:
                    self._quota.release()
            else:
                with (
                    self._change_notifier.subscribe_to_topic(self._id) as self._subscription,
                    self._quota.without_long_poll(),
                ):
                    await self._subscription.wait_until_active()
                    await self._read_on_notifications(self._subscription)

    async def _long_poll(self) -> None:
        """Read states with a long-poll until the operation closes or Temporal rejects the long-poll."""
        failures, has_read, poll = 0, False, HistoryPoll(self._client, self._id)
        while not self.state.is_closed:
            try:
                page = await poll.read_page()
            except RPCError as error:
                if error.status == RPCStatusCode.RESOURCE_EXHAUSTED:
                    self._quota.cool_down()
                    return
                if error.status == RPCStatusCode.INVALID_ARGUMENT:
                    poll.discard_page_token()
                failures += 1  # no other error of Temporal ends the watch
                self._handle_rpc_error(error)
                await asyncio.sleep(_backoff(failures))
                continue
            failures = 0
            self._mark_connected()
            for operation in page.states if self.state.operation is not None else page.states[-1:]:
                await self.state.publish(operation)
                await asyncio.sleep(0)  # lets subscribers receive this state before the next one replaces it
            if page.states and has_read:
                self._on_delay(page.delay_seconds)
            has_read = True

    async def _read_on_notifications(self, subscription: Subscription) -> None:
        """Read the state after each notification, and at an interval, until a long-poll is available."""
        failures, reread_delays = 0, iter(_NO_DELAYS)
        while True:
            before = self.state.operation
            subscription.clear()
            try:
                await self._read()
            except RPCError as error:
                failures += 1
                self._handle_rpc_error(error)
            else:
                failures = 0
            if self.state.is_closed:
                return
            if self.state.operation is not before:
                reread_delays = iter(_NO_DELAYS)
            pause = _backoff(failures) if failures else next(reread_delays, self._interval * random.uniform(0.8, 1))  # noqa: S311 - jitter
            if await wait_for_event(subscription.changed, pause) and subscription.is_notified:
                reread_delays = iter(_REREAD_DELAYS_SECONDS)
            if self._quota.is_long_poll_available:
                return

    async def _read(self) -> None:
        """Describe the workflow and publish its state, with the retries and the heartbeat of its current step."""
        async with self._quota.read_slot(is_first=self.state.operation is None):
            description = await self._client.get_workflow_handle(self._id).describe(rpc_timeout=DESCRIBE_TIMEOUT)
        self._mark_connected()
        await self.state.publish(await to_operation(description, self._client))

    def _mark_connected(self) -> None:
        self._is_connected, self._consecutive_not_found = True, 0

    def _handle_rpc_error(self, error: RPCError) -> None:
        """Note that Temporal did not return a state.

        Raises:
            OperationNotFound: the operation was never found, or is missing in too many consecutive attempts.
        """
        self._is_connected = False
        if error.status != RPCStatusCode.NOT_FOUND:
            self._consecutive_not_found = 0
            return
        self._consecutive_not_found += 1
        if self.state.operation is None or self._consecutive_not_found > _MAX_CONSECUTIVE_NOT_FOUND:
            raise OperationNotFound() from error

    async def _poll_heartbeats(self) -> None:
        """Describe the workflow at an interval while a step runs: history lacks retries and heartbeats.

        The interval is short after a change and grows while nothing changes.
        """
        first, maximum = HEARTBEAT_POLL_RANGE_SECONDS
        pause = first
        while not self.state.is_closed:
            before = self.state.operation
            if before is None or not _has_running_step(before):
                await self.state.wait_for_change()
                pause = first
                continue
            with self._quota.polling_heartbeats():
                await asyncio.sleep(self._quota.heartbeat_poll_interval(pause))
            if self.state.operation is before and self.delivery.mode is not DeliveryMode.INTERVAL:
                with suppress(RPCError):  # the next iteration reads again
                    await self._read()
            pause = first if self.state.operation is not before else min(maximum, max(first, pause * 2))


def _has_running_step(operation: Operation) -> bool:
    """Return whether a step is running, so that a description contains more than the history."""
    return operation.state.status is OperationStatus.RUNNING and current_step(operation) is not None


def _backoff(failures: int) -> float:
    """Return the seconds until the next attempt: exponential with jitter, so that replicas retry separately."""
    first, maximum = _BACKOFF_RANGE_SECONDS
    return random.uniform(first / 2, min(maximum, first * 2**failures))  # noqa: S311 - jitter, not a secret
