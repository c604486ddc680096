"""What a user has under way: known from the starts that were seen, and followed so that looking again costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing, suppress
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from contracts.auth import Session
from contracts.operations import Operation
from infrastructure.change_notifications import woken
from infrastructure.fair_queue import Requester
from infrastructure.tasks import BackgroundTasks
from resolvers.index import OperationIndex, Row
from resolvers.progress import ProgressHub

SHOWN = 50
"""Operations that are shown, the newest first."""
FOLLOWED = 250
"""Operations that are followed without a subscriber: half of the long-polls that a process may hold."""
FOLLOWED_SECONDS = 600.0
"""How long one is followed that nobody asks for."""
_HEAD_START_SECONDS = 0.25
"""Most are over by then, and are read in one go. Who waits for one or subscribes to it does not wait for this."""


class KnownStates(Protocol):
    async def of(self, operation_ids: Iterable[str], requester: Requester) -> list[Operation | None]:
        """In the order asked for; None in the place of one that is no more."""


class Scans(Protocol):
    async def running(self, user_id: str) -> list[Operation]:
        """A user's operations that have not closed, in all tenants, by Temporal's visibility."""


class ActiveOperations:
    """One a process. Closing it ends the following."""

    def __init__(
        self, states: KnownStates, scans: Scans, index: OperationIndex, hub: ProgressHub, *, room: int = FOLLOWED
    ) -> None:
        self._room = room
        self._states = states
        self._scans = scans
        self._index = index
        self._hub = hub
        self._followed: dict[str, _Following] = {}
        self._tasks = BackgroundTasks()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._tasks.aclose()

    async def of(self, viewer: Session) -> list[Operation]:
        """The newest of the viewer's operations in the current tenant that have not closed."""
        rows = (await self._rows(viewer))[:SHOWN]
        active: list[Operation] = []
        requester = Requester(viewer.user_id, viewer.user_id)
        states = await self._states.of((row.operation_id for row in rows), requester)
        for row, state in zip(rows, states, strict=True):
            if state is None:
                await self._index.drop(viewer.user_id, viewer.tenant_id, row)
            elif state.is_closed:
                await self._index.close(viewer.user_id, viewer.tenant_id, row.operation_id)
            else:
                self.follow(state, at_once=True)
                active.append(state)
        return active

    def follow(self, operation: Operation, *, at_once: bool = False) -> None:
        """Keep its newest state at hand until it closes, as far as there is room; ``at_once`` where it is looked at,
        which comes before what has only been started.
        """
        following = self._followed.get(operation.id)
        if following is not None:
            following.go_on()
        elif not operation.is_closed and (len(self._followed) < self._room or (at_once and self._made_room())):
            following = self._followed[operation.id] = _Following(self._hub, operation.id, self._tasks)
            following.task.add_done_callback(partial(self._forget, operation.id, following))
        if following is not None and at_once:
            following.begin()

    def _made_room(self) -> bool:
        """Whether one could be let go that nobody has looked at."""
        for operation_id, following in self._followed.items():
            if not following.has_begun:
                self._tasks.cancel(following.task)
                del self._followed[operation_id]
                return True
        return False

    def _forget(self, operation_id: str, following: _Following, _task: asyncio.Task[None]) -> None:
        if self._followed.get(operation_id) is following:
            del self._followed[operation_id]

    async def _rows(self, viewer: Session) -> list[Row]:
        rows = await self._index.active(viewer.user_id, viewer.tenant_id)
        if rows is not None:
            return rows
        scanned = [
            Row(operation.started_at.timestamp(), operation.id)
            for operation in await self._scans.running(viewer.user_id)
            if viewer.tenant_id in operation.tenant_ids
        ]
        await self._index.fill_active(viewer.user_id, viewer.tenant_id, scanned)
        rows = await self._index.active(viewer.user_id, viewer.tenant_id)
        return sorted(scanned, reverse=True) if rows is None else rows


class _Following:
    """A subscriber that does nothing but keep the watcher of one operation at work."""

    def __init__(self, hub: ProgressHub, operation_id: str, tasks: BackgroundTasks) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends_at = 0.0
        self._begun = asyncio.Event()
        self.go_on()
        self.task = tasks.start(self._follow(hub, operation_id), name=f"keep {operation_id} at hand")

    def begin(self) -> None:
        self._begun.set()

    @property
    def has_begun(self) -> bool:
        """Whether somebody looked at it; by itself it begins without that."""
        return self._begun.is_set()

    def go_on(self) -> None:
        self._ends_at = self._loop.time() + FOLLOWED_SECONDS

    async def _follow(self, hub: ProgressHub, operation_id: str) -> None:
        await woken(self._begun, _HEAD_START_SECONDS)
        with suppress(Exception):  # the watcher has logged it, and whoever asks next is told
            while self._loop.time() < self._ends_at:
                with suppress(TimeoutError):
                    async with (
                        asyncio.timeout_at(self._ends_at),
                        aclosing(hub.watch(operation_id, quietly=True)) as states,
                    ):
                        async for _ in states:
                            pass
                    return
