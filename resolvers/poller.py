"""The newest states of many operations without a long-poll each: read when word comes that one of them has moved."""

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
"""Between two looks at an operation of which no word comes: what makes a lost wake-up harmless."""
DESCRIBES_PER_SECOND = 100.0
"""Of a process, all its feeds together; the regular looks take half of them at most."""
RPC_SECONDS = timedelta(seconds=6)
_AGAIN_SECONDS = (0.05, 0.2, 0.5, 1.0)
"""After word that one has moved, of which Temporal does not show anything yet: the word may be quicker."""
_NONE: tuple[float, ...] = ()
_DESCRIBED_AT_ONCE = 16

log = structlog.get_logger()


class OperationPoller:
    """One a process. What is watched here anyway is taken from its watcher; the rest is described, by turns."""

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
        """How many operations are followed at the moment."""

    async def newer(self, operation: Operation) -> AsyncGenerator[Operation]:
        """Each newer state than this one, to its close; OperationNotFound where Temporal does not have it any more."""
        self.following += 1
        try:
            with self._wakeups.hearing(operation.id) as news, self._hub.overhearing(operation.id, news):
                pauses = iter(_NONE)
                while not operation.is_closed:
                    pause = next(pauses, None)
                    is_told = await woken(news, self._interval if pause is None else pause)
                    news.clear()
                    if is_told:
                        pauses = iter(_AGAIN_SECONDS)
                    # Of tries and heartbeats no word comes, and not every watcher looks for them.
                    is_check = pause is None and not is_told
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
        """None where Temporal does not answer: there is a next time."""
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
