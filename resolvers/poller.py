"""The newest states of many operations without a long-poll each: read after a notification, or at an interval."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from datetime import timedelta

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from contracts.errors import OperationNotFound
from contracts.operations import Operation
from infrastructure.change_notifications import Wakeups, woken
from infrastructure.operation_history import operation_of
from infrastructure.pending_activity import never_falling
from resolvers.progress import ProgressHub

CHECK_SECONDS = 5.0
"""Between two reads of an operation without a notification, because a notification may be lost."""
DESCRIBES_PER_SECOND = 100.0
"""Per process, for all feeds together; the reads at an interval take half of them at most."""
RPC_SECONDS = timedelta(seconds=6)
_AGAIN_SECONDS = (0.05, 0.2, 0.5, 1.0)
"""Pauses after a notification whose change Temporal does not show yet: the notification may be quicker."""
_NONE: tuple[float, ...] = ()
_DESCRIBED_AT_ONCE = 16

log = structlog.get_logger()


class OperationPoller:
    """Polls operations; one per process. Takes states from the hub's watchers where there are any, else describes."""

    def __init__(
        self, client: Client, hub: ProgressHub, wakeups: Wakeups, *, check_seconds: float = CHECK_SECONDS
    ) -> None:
        self._client = client
        self._hub = hub
        self._wakeups = wakeups
        self._check_seconds = check_seconds
        self._describing = asyncio.Semaphore(_DESCRIBED_AT_ONCE)
        self._next_turn = 0.0
        self.following = 0
        """How many operations are polled at the moment."""

    async def newer(self, operation: Operation) -> AsyncGenerator[Operation]:
        """Yield each newer state than this one, to its close; OperationNotFound if Temporal retains it no more."""
        self.following += 1
        try:
            with self._wakeups.hearing(operation.id) as news, self._hub.overhearing(operation.id, news):
                pauses = iter(_NONE)
                while not operation.is_closed:
                    pause = next(pauses, None)
                    is_notified = await woken(news, self._interval if pause is None else pause)
                    news.clear()
                    if is_notified:
                        pauses = iter(_AGAIN_SECONDS)
                    # Retries and heartbeats send no notification, and not every watcher reads them.
                    is_check = pause is None and not is_notified
                    state = None if is_check else self._hub.streamed(operation.id)
                    state = state or await self._described(operation.id)
                    if state is not None and state.position.as_tuple() > operation.position.as_tuple():
                        pauses = iter(_NONE)
                        operation = never_falling(state, operation)
                        yield operation
        finally:
            self.following -= 1

    @property
    def _interval(self) -> float:
        seconds = max(self._check_seconds, 2 * self.following / DESCRIBES_PER_SECOND)
        return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, so that not all are looked at together

    async def _described(self, operation_id: str) -> Operation | None:
        """Return the state; None if Temporal does not answer, since the next read follows."""
        async with self._describing:
            await self._turn()
            try:
                description = await self._client.get_workflow_handle(operation_id).describe(rpc_timeout=RPC_SECONDS)
            except RPCError as error:
                if error.status == RPCStatusCode.NOT_FOUND:
                    raise OperationNotFound() from error
                log.warning("a feed could not look at an operation", workflow_id=operation_id, error=repr(error))
                return None
        state = await operation_of(description, self._client)
        await self._hub.observe(state)
        return state

    async def _turn(self) -> None:
        now = asyncio.get_running_loop().time()
        turn = self._next_turn = max(now, self._next_turn + 1 / DESCRIBES_PER_SECOND)
        await asyncio.sleep(turn - now)
