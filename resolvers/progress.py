"""The hub: one watcher an operation, fed by one history long-poll, and any number of subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from temporalio.client import Client

from contracts.operations import Operation, Position
from infrastructure.tasks import BackgroundTasks
from resolvers.budget import Budget
from resolvers.watcher import Delivery, LagObserver, StateObserver, Watcher, ignore_lag, ignore_state

FIRST_STATE_SECONDS = 8.0
LINGER_SECONDS = 5.0


class ProgressHub:
    """All watchers of a process. Closing it ends every stream."""

    def __init__(
        self,
        client: Client,
        *,
        budget: Budget | None = None,
        observe: StateObserver = ignore_state,
        linger_seconds: float = LINGER_SECONDS,
        lag: LagObserver = ignore_lag,
    ) -> None:
        self._client = client
        self.observe = observe
        """Must also be called with each state that is read in another way."""
        self._lag = lag
        self._overhearing: dict[str, set[asyncio.Event]] = {}
        self._budget = budget or Budget()
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

    def delivery(self, operation_id: str) -> Delivery | None:
        """How the states of an operation that is watched here come; None for any other."""
        watcher = self._watchers.get(operation_id)
        return watcher.delivery if watcher else None

    def known(self, operation_id: str) -> Operation | None:
        """The newest state of an operation that is watched here; None for any other, or while Temporal is silent."""
        watcher = self._watchers.get(operation_id)
        return watcher.known() if watcher else None

    def streamed(self, operation_id: str) -> Operation | None:
        """The newest state of an operation of which each comes here the moment it is written; None for any other."""
        watcher = self._watchers.get(operation_id)
        return watcher.streamed if watcher else None

    @contextmanager
    def overhearing(self, operation_id: str, news: asyncio.Event) -> Iterator[None]:
        """While the block runs the event is set at each new state of the operation, if it is watched here."""
        events = self._overhearing.setdefault(operation_id, set())
        events.add(news)
        try:
            yield
        finally:
            events.discard(news)
            if not events:
                del self._overhearing[operation_id]

    async def watch(
        self,
        operation_id: str,
        *,
        after: Position | None = None,
        admit: Callable[[Operation], Awaitable[object]] = ignore_state,
        quietly: bool = False,
    ) -> AsyncGenerator[Operation]:
        """The operation as it stands, unless ``after`` is its position, then each newer state, to its close.

        A subscriber that is slow gets the newest state, not a queue of old ones. ``admit`` is shown the first state and
        raises where this subscriber may not see it. ``quietly`` is without tries and heartbeats: they cost.
        Raises OperationNotFound, and ServiceUnavailable where no first state arrives within eight seconds.
        """
        watcher = self._join(operation_id, quietly=quietly)
        try:
            latest = await watcher.first(FIRST_STATE_SECONDS)
            await admit(latest)
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
            self._leave(operation_id, watcher, quietly=quietly)

    async def _saw(self, operation: Operation) -> None:
        await self.observe(operation)
        asyncio.get_running_loop().call_soon(self._notify, operation.id)  # once its watcher has it

    def _notify(self, operation_id: str) -> None:
        for news in self._overhearing.get(operation_id, ()):
            news.set()

    def _join(self, operation_id: str, *, quietly: bool) -> Watcher:
        watcher = self._watchers.get(operation_id)
        if watcher is None or watcher.failed or watcher.is_stale:
            watcher = self._watchers[operation_id] = Watcher(
                self._client, operation_id, self._budget, self._saw, self._lag
            )
        watcher.join(quietly=quietly)
        return watcher

    def _leave(self, operation_id: str, watcher: Watcher, *, quietly: bool) -> None:
        watcher.leave(quietly=quietly)
        if watcher.subscribers == 0:
            asyncio.get_running_loop().call_later(self._linger_seconds, self._retire, operation_id, watcher)

    def _retire(self, operation_id: str, watcher: Watcher) -> None:
        if watcher.subscribers == 0:
            if self._watchers.get(operation_id) is watcher:
                del self._watchers[operation_id]
            self._tasks.start(watcher.stop(), name=f"stop watching {operation_id}")
