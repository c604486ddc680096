"""The hub: one watcher per followed operation, and any number of subscribers."""

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
from resolvers.following.watcher import DelayObserver, Delivery, Mode, Sources, Watcher

FIRST_STATE_SECONDS = 8.0
LINGER_SECONDS = 5.0


async def ignore_state(_operation: Operation) -> None:
    """The state observer of a hub that has none."""


def ignore_delay(_seconds: float) -> None:
    """The delay observer of a hub that has none."""


class ProgressHub:
    """All watchers of a process. Closing it ends every stream."""

    def __init__(
        self,
        client: Client,
        *,
        budget: LongPollQuota | None = None,
        change_notifier: ChangeNotifier | None = None,
        observe: StateObserver = ignore_state,
        linger_seconds: float = LINGER_SECONDS,
        observe_delay: DelayObserver = ignore_delay,
    ) -> None:
        """Without ``change_notifier`` no change notifications arrive."""
        self._sources = Sources(
            client,
            budget or LongPollQuota(),
            change_notifier or LocalNotifier(has_publishers=False),
            observe,
            observe_delay,
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
    def watching(self) -> int:
        """How many operations have a watcher, the lingering ones included."""
        return len(self._watchers)

    @property
    def modes(self) -> Counter[Mode]:
        """How many operations are watched in which mode."""
        return Counter(watcher.delivery.mode for watcher in self._watchers.values())

    def delivery(self, operation_id: str) -> Delivery | None:
        """How the states of an operation that is watched here come; None for any other."""
        watcher = self._watchers.get(operation_id)
        return watcher.delivery if watcher else None

    def current(self, operation_id: str) -> Operation | None:
        """The newest state of an operation that is watched here; None for any other, or while Temporal is silent."""
        watcher = self._watchers.get(operation_id)
        return watcher.current if watcher else None

    async def watch(
        self,
        operation_id: str,
        *,
        after: Position | None = None,
        admit: Callable[[Operation], Awaitable[object]] = ignore_state,
    ) -> AsyncGenerator[Operation]:
        """The operation as it stands, unless ``after`` is its position, then each newer state, to its close.

        A subscriber that is slow gets the newest state, not a queue of old ones. ``admit`` is shown the first state and
        raises where this subscriber may not see it.
        Raises OperationNotFound, and ServiceUnavailable where no first state arrives within eight seconds.
        """
        watcher = self._join(operation_id)
        try:
            latest = await watcher.state.first(FIRST_STATE_SECONDS)
            await admit(latest)
            while True:
                if after is None or latest.position.as_tuple() > after.as_tuple():
                    after = latest.position
                    yield latest
                elif latest.is_closed:
                    return
                else:
                    await watcher.state.changed(after)
                latest = watcher.state.latest
        finally:
            self._leave(operation_id, watcher)

    def _join(self, operation_id: str) -> Watcher:
        watcher = self._watchers.get(operation_id)
        if watcher is None or watcher.is_over:
            watcher = self._watchers[operation_id] = Watcher(operation_id, self._sources)
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
            self._tasks.start(watcher.stop(), name=f"stop watching {operation_id}")
