"""The newest state of one followed operation, shared by its watcher and all its subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from contracts.errors import ServiceUnavailable
from contracts.operations import Operation, Position
from infrastructure.temporal.pending_activity import with_monotonic_progress

_CLOSE_TRUSTED_SECONDS = 1.0
"""How long a closed run counts as the end of the operation; afterwards a reset may have started another run."""

StateObserver: TypeAlias = Callable[[Operation], Awaitable[None]]
"""Callback that receives each new state before any subscriber does. It returns quickly and raises nothing."""


class NewestState:
    """Holds the newest state of an operation and wakes its waiters when a strictly newer state replaces it.

    States may arrive in any order and from several readers; an older state is ignored.
    """

    def __init__(self, on_state: StateObserver) -> None:
        self._on_state = on_state
        self._changed = asyncio.Event()
        self._closed_since: float | None = None
        self._error: BaseException | None = None
        self.operation: Operation | None = None
        """The newest state; None until the first state was read."""

    @property
    def latest(self) -> Operation:
        """The newest state.

        Raises:
            BaseException: the error of the watcher, if it has failed.
        """
        if self._error is not None:
            raise self._error
        assert self.operation is not None, "call wait_for_first before latest"
        return self.operation

    @property
    def is_closed(self) -> bool:
        """Whether the newest state is the final one."""
        return self.operation is not None and self.operation.is_closed

    @property
    def is_stale(self) -> bool:
        """Whether the close was read more than a second ago, so that a reset may have started another run since."""
        since = self._closed_since
        return since is not None and asyncio.get_running_loop().time() - since > _CLOSE_TRUSTED_SECONDS

    @property
    def has_failed(self) -> bool:
        """Whether the watcher has failed, so that all streams have ended with its error."""
        return self._error is not None

    async def wait_for_first(self, seconds: float) -> Operation:
        """Return the newest state; wait up to ``seconds`` for the first one.

        Raises:
            ServiceUnavailable: no state arrived in time.
            BaseException: the error of the watcher, if it has failed.
        """
        try:
            async with asyncio.timeout(seconds):
                while self.operation is None and self._error is None:
                    await self._changed.wait()
        except TimeoutError as error:
            raise ServiceUnavailable(service="temporal") from error
        return self.latest

    async def wait_for_newer(self, since: Position) -> None:
        """Wait for a state that is newer than ``since``, or until the watcher fails."""
        while self._error is None and self.latest.position.as_tuple() <= since.as_tuple():
            await self._changed.wait()

    async def wait_for_change(self) -> None:
        """Wait until the state is replaced, or until the watcher fails."""
        await self._changed.wait()

    async def publish(self, operation: Operation) -> None:
        """Replace the state if the given one is newer."""
        if self._is_newer(operation):
            await self._on_state(operation)
        if self._is_newer(operation):  # check again: another state may have been published during the await
            self.operation = operation if self.operation is None else with_monotonic_progress(operation, self.operation)
            if self.operation.is_closed and self._closed_since is None:
                self._closed_since = asyncio.get_running_loop().time()
            self._notify()

    def fail(self, error: BaseException) -> None:
        """End the streams of all subscribers with this error."""
        self._error = error
        self._notify()

    def _is_newer(self, operation: Operation) -> bool:
        latest = self.operation
        if latest is None:
            return True
        is_same = operation.state == latest.state and operation.is_closed == latest.is_closed
        if is_same and operation.position.run != latest.position.run:  # another run that continues in the same state
            return False
        return operation.position.as_tuple() > latest.position.as_tuple()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
