"""The newest state of one followed operation: the one slot that all its subscribers share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from contracts.errors import ServiceUnavailable
from contracts.operations import Operation, Position
from infrastructure.temporal.pending_activity import with_monotonic_progress

_END_SECONDS = 1.0
"""How long a closed run counts as the end of the operation without a check for another run."""

StateObserver: TypeAlias = Callable[[Operation], Awaitable[None]]
"""Receives each new state before any subscriber does; returns quickly and raises nothing."""


class NewestState:
    """Replaced by strictly newer states only, independent of their reader and of the order in which they arrive."""

    def __init__(self, observe: StateObserver) -> None:
        self._observe = observe
        self._changed = asyncio.Event()
        self._closed_since: float | None = None
        self._error: BaseException | None = None
        self.operation: Operation | None = None
        """None until the first state was read."""

    @property
    def latest(self) -> Operation:
        """The newest state; raises the error of the watcher, if it has failed."""
        if self._error is not None:
            raise self._error
        assert self.operation is not None, "await the first state first"
        return self.operation

    @property
    def is_closed(self) -> bool:
        return self.operation is not None and self.operation.is_closed

    @property
    def is_stale(self) -> bool:
        """Whether the close was read more than a second ago: a reset may have started another run since."""
        since = self._closed_since
        return since is not None and asyncio.get_running_loop().time() - since > _END_SECONDS

    @property
    def has_failed(self) -> bool:
        return self._error is not None

    async def first(self, seconds: float) -> Operation:
        """The newest state, awaiting the first one; ServiceUnavailable if none arrives in time."""
        try:
            async with asyncio.timeout(seconds):
                while self.operation is None and self._error is None:
                    await self._changed.wait()
        except TimeoutError as error:
            raise ServiceUnavailable(service="temporal") from error
        return self.latest

    async def changed(self, since: Position) -> None:
        """Wait for a newer state than ``since`` or for the watcher's error."""
        while self._error is None and self.latest.position.as_tuple() <= since.as_tuple():
            await self._changed.wait()

    async def next(self) -> None:
        """Wait until the state is replaced, or the watcher has failed."""
        await self._changed.wait()

    async def publish(self, operation: Operation) -> None:
        """Replace the state if this one is newer."""
        if self._is_newer(operation):
            await self._observe(operation)
        if self._is_newer(operation):  # still: another state may have been published during the await
            self.operation = operation if self.operation is None else with_monotonic_progress(operation, self.operation)
            if self.operation.is_closed and self._closed_since is None:
                self._closed_since = asyncio.get_running_loop().time()
            self._notify()

    def fail(self, error: BaseException) -> None:
        """End the streams of all subscribers with the error."""
        self._error = error
        self._notify()

    def _is_newer(self, operation: Operation) -> bool:
        latest = self.operation
        if latest is None:
            return True
        is_same = operation.state == latest.state and operation.is_closed == latest.is_closed
        if is_same and operation.position.run != latest.position.run:  # a run that continues where another one ended
            return False
        return operation.position.as_tuple() > latest.position.as_tuple()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
