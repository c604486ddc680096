"""The feed of all that a user has going on in a tenant: each operation as it starts, moves and closes."""

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

LOOK_SECONDS = 10.0
"""Between two looks at the list where no wake-up came: what makes a lost one harmless."""
_AGAIN_SECONDS = 1.0
"""Before an operation is followed again after Temporal has not answered."""
NEWEST = 100
"""Operations of the list that are looked at: what is older and has not closed is not followed here."""

log = structlog.get_logger()


class FeedRegistry:
    """All feeds of a process: one source a user and tenant, however many of their clients follow it."""

    def __init__(
        self,
        hub: ProgressHub,
        records: OperationRecords,
        change_notifier: ChangeNotifier,
        *,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._hub = hub
        self._records = records
        self._change_notifier = change_notifier
        self._look_seconds = look_seconds
        self._sources: dict[tuple[str, str], UserFeed] = {}

    async def follow(self, viewer: Session) -> AsyncGenerator[Operation]:
        """Each operation under way as it stands, then each as it starts, moves and closes, newest state first of each.

        A subscriber that is slow gets of each operation the newest state. It has no end of its own.
        """
        async with self._joined(viewer) as source:
            slots = source.join()
            try:
                while True:
                    yield await slots.next()
            finally:
                source.leave(slots)

    @asynccontextmanager
    async def _joined(self, viewer: Session) -> AsyncIterator[UserFeed]:
        key = (viewer.user_id, viewer.tenant_id)
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = UserFeed(
                self._hub, self._records, self._change_notifier, viewer, look_seconds=self._look_seconds
            )
        source.users += 1
        try:
            yield source
        finally:
            source.users -= 1
            if source.users == 0:
                if self._sources.get(key) is source:
                    del self._sources[key]
                await source.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for source in list(self._sources.values()):
            await source.stop()
        self._sources.clear()


class UserFeed:
    """Watches what one user has going on in one tenant, and hands each state to all who follow."""

    def __init__(
        self,
        hub: ProgressHub,
        records: OperationRecords,
        change_notifier: ChangeNotifier,
        viewer: Session,
        *,
        look_seconds: float,
    ) -> None:
        self._hub = hub
        self._records = records
        self._change_notifier = change_notifier
        self._viewer = viewer
        self._look_seconds = look_seconds
        self._followers: set[ConflatingQueue] = set()
        self._delivered: dict[str, Position] = {}
        """The position last read or delivered of each operation that is under way or among the newest of the list."""
        self._under_way: dict[str, Operation] = {}
        self._tasks = BackgroundTasks()
        self.users = 0
        self._tasks.supervise(self._look, name="look for operations")

    def join(self) -> ConflatingQueue:
        slots = ConflatingQueue()
        for operation in self._under_way.values():
            slots.put(operation)
        self._followers.add(slots)
        return slots

    def leave(self, slots: ConflatingQueue) -> None:
        self._followers.discard(slots)

    async def stop(self) -> None:
        """End it; the streams of those that still follow it raise ServiceUnavailable."""
        await self._tasks.aclose()
        for slots in self._followers:
            slots.close()

    async def _look(self) -> None:
        begun_before = True
        with self._change_notifier.subscribe(self._viewer.user_id) as news:
            while True:
                news.clear()
                try:
                    newest = await self._records.newest(self._viewer, NEWEST)
                except (DomainError, RPCError, OSError) as error:
                    log.warning("a feed could not look for operations", error=repr(error))
                except Exception as error:
                    log.error("a feed could not look for operations", exc_info=error)
                else:
                    for operation in newest:
                        if operation.id in self._under_way:
                            continue
                        if self._is_news(operation) and not (begun_before and operation.is_closed):
                            self._watch(operation)
                        self._delivered[operation.id] = operation.position
                    kept = self._under_way.keys() | {operation.id for operation in newest}
                    self._delivered = {id: position for id, position in self._delivered.items() if id in kept}
                    begun_before = False
                await wait_for_event(news, self._look_seconds)

    def _is_news(self, operation: Operation) -> bool:
        """Whether it was not read before, or has a newer state since it closed, as after a reset."""
        delivered = self._delivered.get(operation.id)
        return delivered is None or operation.position.as_tuple() > delivered.as_tuple()

    def _watch(self, operation: Operation) -> None:
        self._under_way[operation.id] = operation
        self._deliver(operation)
        self._tasks.start(self._pass_on(operation), name=f"feed {operation.id}")

    async def _pass_on(self, operation: Operation) -> None:
        try:
            while True:
                try:
                    return await self._follow(self._under_way[operation.id])
                except ServiceUnavailable as error:
                    log.warning("feed_interrupted", workflow_id=operation.id, error=repr(error))
                    await asyncio.sleep(_AGAIN_SECONDS)
        except OperationNotFound:
            pass  # Temporal does not retain it any more
        except Exception as error:
            log.error("a feed lost an operation", workflow_id=operation.id, exc_info=error)
            self._delivered.pop(operation.id, None)  # the next read of the list begins it again
        finally:
            del self._under_way[operation.id]

    async def _follow(self, operation: Operation) -> None:
        """Deliver each newer state than this one."""
        async with aclosing(self._hub.watch(operation.id, after=operation.position)) as states:
            async for newer in states:
                self._under_way[operation.id] = newer
                self._deliver(newer)

    def _deliver(self, operation: Operation) -> None:
        self._delivered[operation.id] = operation.position
        for slots in self._followers:
            slots.put(operation)


class ConflatingQueue:
    """The states that one follower has still to receive: the newest of each operation, oldest change first."""

    def __init__(self) -> None:
        self._states: dict[str, Operation] = {}
        self._news = asyncio.Event()
        self._is_closed = False

    def close(self) -> None:
        self._is_closed = True
        self._news.set()

    def put(self, operation: Operation) -> None:
        self._states[operation.id] = operation
        self._news.set()

    async def next(self) -> Operation:
        """Raises ServiceUnavailable once nothing more will come."""
        while not self._states:
            if self._is_closed:
                raise ServiceUnavailable(service="gateway")
            self._news.clear()
            await self._news.wait()
        return self._states.pop(next(iter(self._states)))
