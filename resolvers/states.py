"""Operations as they stand, by id: what is watched or has closed is known here, and only the rest is described."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from contracts.operations import Operation
from infrastructure.change_notifications import LOST, LocalWakeups, Wakeups
from infrastructure.fair_queue import Requester
from infrastructure.tasks import concurrently
from resolvers.describe_limit import DescribeLimit
from resolvers.history import operation_of
from resolvers.progress import ProgressHub
from resolvers.repairs import needs_repair, with_repair
from resolvers.start import RPC_SECONDS
from resolvers.together import Together
from resolvers.watcher import Witness, nobody

_CLOSED_KEPT = 5_000
_KEPT_SECONDS = 60.0
"""After which a closed operation is looked at again: word of a reset may be lost."""


class _Kept(NamedTuple):
    operation: Operation
    until: float
    moved: asyncio.Event
    hearing: ExitStack


class States:
    """One a process. ``witness`` is shown a close that is found here before whoever asked is, and ``reopened`` is shown
    an operation that had closed and that a reset has begun again.

    A closed operation is kept for a while and until word comes that it has moved: it may be reset.
    """

    def __init__(
        self,
        client: Client,
        hub: ProgressHub,
        witness: Witness = nobody,
        wakeups: Wakeups | None = None,
        reopened: Witness = nobody,
        limit: DescribeLimit | None = None,
    ) -> None:
        self._client = client
        self._hub = hub
        self._witness = witness
        self._reopened = reopened
        self._wakeups = wakeups or LocalWakeups()
        self._closed: OrderedDict[str, _Kept] = OrderedDict()
        self._limit = limit or DescribeLimit()
        self._under_way: Together[Operation | None] = Together()

    async def of(self, operation_ids: Iterable[str], requester: Requester) -> list[Operation | None]:
        """In the order asked for; None in the place of one that Temporal does not have (any more).

        One that several ask for at the same time is described once.
        """
        return await concurrently(*(self._state(operation_id, requester) for operation_id in operation_ids))

    def unknown(self, operation_ids: Iterable[str]) -> int:
        """How many of them would have to be described."""
        return sum(
            self._kept(operation_id) is None and self._hub.known(operation_id) is None for operation_id in operation_ids
        )

    def has_moved(self, operation_id: str) -> bool:
        """Whether word has come that an operation moved which was kept as closed."""
        kept = self._closed.get(operation_id)
        return kept is not None and kept.moved.is_set()

    def keep(self, operation: Operation) -> None:
        """Keep it, if it has closed."""
        self._drop(operation.id)
        if operation.is_closed:
            with ExitStack() as stack:
                moved = stack.enter_context(self._wakeups.hearing(operation.id, LOST))
                until = asyncio.get_running_loop().time() + _KEPT_SECONDS
                self._closed[operation.id] = _Kept(operation, until, moved, stack.pop_all())
            if len(self._closed) > _CLOSED_KEPT:
                self._drop(next(iter(self._closed)))

    def _kept(self, operation_id: str) -> Operation | None:
        kept = self._closed.get(operation_id)
        if kept is None or kept.moved.is_set() or asyncio.get_running_loop().time() > kept.until:
            return None
        self._closed.move_to_end(operation_id)
        return kept.operation

    def _drop(self, operation_id: str) -> None:
        kept = self._closed.pop(operation_id, None)
        if kept is not None:
            kept.hearing.close()

    async def _state(self, operation_id: str, requester: Requester) -> Operation | None:
        kept = self._kept(operation_id)
        if kept is not None and not needs_repair(kept):
            return kept
        operation = kept or self._hub.known(operation_id)
        if operation is None:
            operation = await self._under_way.do(operation_id, lambda: self._describe(operation_id, requester))
        if operation is not None:
            if operation_id in self._closed and not operation.is_closed:
                await self._reopened(operation)
            is_new = operation is not kept
            if needs_repair(operation):
                async with self._limit.slot(requester):
                    operation = await with_repair(operation, self._client)
            if is_new or not needs_repair(operation):
                self.keep(operation)
        return operation

    async def _describe(self, operation_id: str, requester: Requester) -> Operation | None:
        async with self._limit.slot(requester):
            try:
                description = await self._client.get_workflow_handle(operation_id).describe(rpc_timeout=RPC_SECONDS)
            except RPCError as error:
                if error.status == RPCStatusCode.NOT_FOUND:
                    return None
                raise
        operation = await operation_of(description, self._client)
        if operation.is_closed:
            await self._witness(operation)
        return operation
