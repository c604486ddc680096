"""Operations as they stand, by id: what is watched or has closed is known here, and only the rest is described."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from contracts.operations import Operation
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


class States:
    """One a process. ``witness`` is shown a close that is found here before whoever asked is."""

    def __init__(
        self, client: Client, hub: ProgressHub, witness: Witness = nobody, limit: DescribeLimit | None = None
    ) -> None:
        self._client = client
        self._hub = hub
        self._witness = witness
        self._limit = limit or DescribeLimit()
        self._under_way: Together[Operation | None] = Together()
        self._closed: OrderedDict[str, Operation] = OrderedDict()

    async def of(self, operation_ids: Iterable[str], requester: Requester) -> list[Operation | None]:
        """In the order asked for; None in the place of one that Temporal does not have (any more).

        One that several ask for at the same time is described once.
        """
        return await concurrently(*(self._state(operation_id, requester) for operation_id in operation_ids))

    def unknown(self, operation_ids: Iterable[str]) -> int:
        """How many of them would have to be described."""
        return sum(
            operation_id not in self._closed and self._hub.known(operation_id) is None for operation_id in operation_ids
        )

    def keep(self, operation: Operation) -> None:
        """Keep it, if it has closed: it stands for good, but for what a repair undoes."""
        if operation.is_closed:
            self._closed[operation.id] = operation
            if len(self._closed) > _CLOSED_KEPT:
                self._closed.popitem(last=False)

    async def _state(self, operation_id: str, requester: Requester) -> Operation | None:
        kept = self._closed.get(operation_id)
        if kept is not None and not needs_repair(kept):
            self._closed.move_to_end(operation_id)
            return kept
        operation = kept or self._hub.known(operation_id)
        if operation is None:
            operation = await self._under_way.do(operation_id, lambda: self._describe(operation_id, requester))
        if operation is not None:
            if needs_repair(operation):
                async with self._limit.slot(requester):
                    operation = await with_repair(operation, self._client)
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
