"""The hub: all watchers of one process, one per followed operation, each shared by any number of subscribers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import TracebackType
from typing import Self

from temporalio.client import Client

from contracts.operations import Operation, Position
from infrastructure.change_notifications import ChangeNotifier, LocalNotifier
from infrastructure.tasks import BackgroundTasks
from resolvers.following.long_poll_quota import LongPollQuota
from resolvers.following.newest_state import StateObserver
from resolvers.following.watcher import DelayObserver, Delivery, DeliveryMode, Watcher, WatcherDependencies

FIRST_STATE_TIMEOUT_SECONDS = 8.0
"""How long a new subscriber waits for the first state of an operation."""
LINGER_SECONDS = 5.0
"""How long a watcher continues without subscribers, so that a client that reconnects finds it."""


async def ignore_state(_operation: Operation) -> None:
    """Do nothing: the default observer of states."""


def ignore_delay(_seconds: float) -> None:
    """Do nothing: the default observer of delays."""


class ProgressHub:
    """All watchers of one process. Closing the hub ends every stream."""

    def __init__(
        self,
        client: Client,
        *,
        long_poll_quota: LongPollQuota | None = None,
        change_notifier: ChangeNotifier | None = None,
        on_state: StateObserver = ignore_state,
        linger_seconds: float = LINGER_SECONDS,
        on_delay: DelayObserver = ignore_delay,
    ) -> None:
        """Create a hub without watchers.

        Args:
            long_poll_quota: Bounds the calls to Temporal of all watchers together.
            notifier: Delivers change notifications; if it is missing, operations without a long-poll are read at an
                interval.
            on_state: Receives each new state before any subscriber does.
            linger_seconds: How long a watcher continues after its last subscriber has left.
            on_delay: Receives the delay of each page of history in seconds.
        """
        self._dependencies = WatcherDependencies(
            client,
            long_poll_quota or LongPollQuota(),
            change_notifier or LocalNotifier(has_publishers=False),
            on_state,
            on_delay,
        )
        self._linger_seconds = linger_seconds
        self._watchers: dict[str, Watcher] = {}
        self._tasks = BackgroundTasks()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        watchers = list(self._watchers.values())
        self._watchers.clear()
        for watcher in watchers:
            await watcher.stop()
        await self._tasks.aclose()

    @property
    def watcher_count(self) -> int:
        """Number of operations that have a watcher, including watchers without subscribers."""
        return len(self._watchers)

    @property
    def watchers_by_mode(self) -> Counter[DeliveryMode]:
        """Number of watchers in each delivery mode."""
        return Counter(watcher.delivery.mode for watcher in self._watchers.values())

    def delivery(self, operation_id: str) -> Delivery | None:
        """Return how the states of a watched operation arrive; None if this process does not watch the operation."""
        watcher = self._watchers.get(operation_id)
        return watcher.delivery if watcher else None

    def current(self, operation_id: str) -> Operation | None:
        """Return the newest state of a watched operation; None if it is not watched here or Temporal is unavailable."""
        watcher = self._watchers.get(operation_id)
        return watcher.current if watcher else None

    async def watch(
        self,
        operation_id: str,
        *,
        after: Position | None = None,
        authorize: Callable[[Operation], Awaitable[object]] = ignore_state,
    ) -> AsyncGenerator[Operation]:
        """Yield the current state of an operation, then each newer state, until the operation closes.

        A slow subscriber receives only the newest state, not a queue of older ones.

        Args:
            after: Yield only states that are newer than this position.
            authorize: Called with the first state; raises if this subscriber may not see the operation.

        Raises:
            OperationNotFound: Temporal does not have the operation.
            ServiceUnavailable: no first state arrived within ``FIRST_STATE_TIMEOUT_SECONDS``, or the hub was closed.
        """
        watcher = self._subscribe(operation_id)
        try:
            latest = await watcher.state.wait_for_first(FIRST_STATE_TIMEOUT_SECONDS)
            await authorize(latest)
            while True:
                if after is None or latest.position.as_tuple() > after.as_tuple():
                    after = latest.position
                    yield latest
                elif latest.is_closed:
                    return
                else:
                    await watcher.state.wait_for_newer(after)
                latest = watcher.state.latest
        finally:
            self._unsubscribe(operation_id, watcher)

    def _subscribe(self, operation_id: str) -> Watcher:
        watcher = self._watchers.get(operation_id)
        if watcher is None or watcher.needs_replacement:
            watcher = self._watchers[operation_id] = Watcher(operation_id, self._dependencies)
        watcher.subscribers += 1
        return watcher

    def _unsubscribe(self, operation_id: str, watcher: Watcher) -> None:
        watcher.subscribers -= 1
        if watcher.subscribers == 0:
            asyncio.get_running_loop().call_later(self._linger_seconds, self._stop_if_unused, operation_id, watcher)

    def _stop_if_unused(self, operation_id: str, watcher: Watcher) -> None:
        if watcher.subscribers == 0:
            if self._watchers.get(operation_id) is watcher:
                del self._watchers[operation_id]
            self._tasks.start(watcher.stop(), name=f"stop watching {operation_id}")
