"""Feeds: streams of the states of all running operations of one user in one tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Self

import structlog
from temporalio.service import RPCError

from contracts.auth import Session
from contracts.errors import DomainError, OperationNotFound, ServiceUnavailable
from contracts.operations import Operation, Position
from infrastructure.change_notifications import ChangeNotifier, wait_for_event
from infrastructure.tasks import BackgroundTasks
from resolvers.following.hub import ProgressHub
from resolvers.operations.records import OperationRecords

LIST_INTERVAL_SECONDS = 10.0
"""Interval at which a feed reads the list of operations if no change notification arrives, because one may be lost."""
_RETRY_INTERVAL_SECONDS = 1.0
"""Delay before a feed watches an operation again after Temporal was unavailable."""
MAX_LISTED_OPERATIONS = 100
"""Number of newest operations that a feed reads; an older operation is not delivered, even if it is running."""

log = structlog.get_logger()


class FeedRegistry:
    """All feeds of one process: one ``UserFeed`` per user and tenant, shared by all subscribers of that user."""

    def __init__(
        self,
        hub: ProgressHub,
        records: OperationRecords,
        change_notifier: ChangeNotifier,
        *,
        list_interval_seconds: float = LIST_INTERVAL_SECONDS,
    ) -> None:
        self._hub = hub
        self._records = records
        self._change_notifier = change_notifier
        self._list_interval_seconds = list_interval_seconds
        self._feeds: dict[tuple[str, str], UserFeed] = {}

    async def follow(self, viewer: Session) -> AsyncGenerator[Operation]:
        """Yield the state of each running operation, then a new state when an operation starts, changes or closes.

        A slow subscriber receives only the newest state of each operation. The stream does not end by itself.

        Raises:
            ServiceUnavailable: the registry was closed.
        """
        async with self._shared_feed(viewer) as feed:
            queue = feed.subscribe()
            try:
                while True:
                    yield await queue.get()
            finally:
                feed.unsubscribe(queue)

    @asynccontextmanager
    async def _shared_feed(self, viewer: Session) -> AsyncIterator[UserFeed]:
        """Yield the feed of this user and tenant, started by the first subscriber and stopped by the last one."""
        key = (viewer.user_id, viewer.tenant_id)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = UserFeed(
                self._hub,
                self._records,
                self._change_notifier,
                viewer,
                list_interval_seconds=self._list_interval_seconds,
            )
        feed.subscriber_count += 1
        try:
            yield feed
        finally:
            feed.subscriber_count -= 1
            if feed.subscriber_count == 0:
                if self._feeds.get(key) is feed:
                    del self._feeds[key]
                await feed.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for feed in list(self._feeds.values()):
            await feed.stop()
        self._feeds.clear()


class UserFeed:
    """Watches the running operations of one user in one tenant and passes each state to all subscribers."""

    def __init__(
        self,
        hub: ProgressHub,
        records: OperationRecords,
        change_notifier: ChangeNotifier,
        viewer: Session,
        *,
        list_interval_seconds: float,
    ) -> None:
        self._hub = hub
        self._records = records
        self._change_notifier = change_notifier
        self._viewer = viewer
        self._list_interval_seconds = list_interval_seconds
        self._queues: set[ConflatingQueue] = set()
        self._delivered: dict[str, Position] = {}
        """Position last read or delivered, by id of each watched operation and each operation of the list."""
        self._watched: dict[str, Operation] = {}
        self._tasks = BackgroundTasks()
        self.subscriber_count = 0
        self._tasks.supervise(self._poll_list, name="poll the list of operations")

    def subscribe(self) -> ConflatingQueue:
        """Return a queue that receives each new state; it starts with the current states of the watched operations."""
        queue = ConflatingQueue()
        for operation in self._watched.values():
            queue.put(operation)
        self._queues.add(queue)
        return queue

    def unsubscribe(self, queue: ConflatingQueue) -> None:
        """Remove the queue; it receives no further states."""
        self._queues.discard(queue)

    async def stop(self) -> None:
        """Stop watching; the streams of the remaining subscribers raise ServiceUnavailable."""
        await self._tasks.aclose()
        for queue in self._queues:
            queue.close()

    async def _poll_list(self) -> None:
        """Read the list after each notification and at an interval, and watch new operations."""
        is_first_read = True
        with self._change_notifier.subscribe(self._viewer.user_id) as changed:
            while True:
                changed.clear()
                try:
                    newest = await self._records.newest(self._viewer, MAX_LISTED_OPERATIONS)
                except (DomainError, RPCError, OSError) as error:
                    log.warning("feed_list_failed", error=repr(error))
                except Exception as error:
                    log.error("feed_list_failed", exc_info=error)
                else:
                    for operation in newest:
                        if operation.id in self._watched:
                            continue
                        if self._is_new_state(operation) and not (is_first_read and operation.is_closed):
                            self._start_watching(operation)
                        self._delivered[operation.id] = operation.position
                    current_ids = self._watched.keys() | {operation.id for operation in newest}
                    self._delivered = {id: position for id, position in self._delivered.items() if id in current_ids}
                    is_first_read = False
                await wait_for_event(changed, self._list_interval_seconds)

    def _is_new_state(self, operation: Operation) -> bool:
        """Return whether the operation is new, or has a newer state than at its close, for example after a reset."""
        delivered = self._delivered.get(operation.id)
        return delivered is None or operation.position.as_tuple() > delivered.as_tuple()

    def _start_watching(self, operation: Operation) -> None:
        self._watched[operation.id] = operation
        self._deliver(operation)
        self._tasks.start(self._deliver_until_closed(operation), name=f"feed {operation.id}")

    async def _deliver_until_closed(self, operation: Operation) -> None:
        """Deliver the states of one operation until it closes; retry while Temporal is unavailable."""
        try:
            while True:
                try:
                    return await self._deliver_newer_states(self._watched[operation.id])
                except ServiceUnavailable as error:
                    log.warning("feed_interrupted", workflow_id=operation.id, error=repr(error))
                    await asyncio.sleep(_RETRY_INTERVAL_SECONDS)
        except OperationNotFound:
            pass  # Temporal no longer retains the operation
        except Exception as error:
            log.error("feed_operation_failed", workflow_id=operation.id, exc_info=error)
            self._delivered.pop(operation.id, None)  # the next read of the list starts a new watch
        finally:
            del self._watched[operation.id]

    async def _deliver_newer_states(self, operation: Operation) -> None:
        """Deliver each state that is newer than this one."""
        async with aclosing(self._hub.watch(operation.id, after=operation.position)) as states:
            async for newer in states:
                self._watched[operation.id] = newer
                self._deliver(newer)

    def _deliver(self, operation: Operation) -> None:
        self._delivered[operation.id] = operation.position
        for queue in self._queues:
            queue.put(operation)


class ConflatingQueue:
    """Queue of states for one subscriber that keeps only the newest state of each operation, in order of arrival."""

    def __init__(self) -> None:
        self._states: dict[str, Operation] = {}
        self._has_changed = asyncio.Event()
        self._is_closed = False

    def close(self) -> None:
        """Let ``get`` raise ServiceUnavailable once the queue is empty."""
        self._is_closed = True
        self._has_changed.set()

    def put(self, operation: Operation) -> None:
        """Add the state, which replaces an older state of the same operation."""
        self._states[operation.id] = operation
        self._has_changed.set()

    async def get(self) -> Operation:
        """Wait for a state and remove it from the queue.

        Raises:
            ServiceUnavailable: the queue is closed and empty.
        """
        while not self._states:
            if self._is_closed:
                raise ServiceUnavailable(service="gateway")
            self._has_changed.clear()
            await self._has_changed.wait()
        return self._states.pop(next(iter(self._states)))
