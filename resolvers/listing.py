"""Lists of operations: pages newest first, from the index and the states it leads to."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from contracts.auth import Session
from contracts.errors import InvalidCursor, OperationNotFound
from contracts.operations import ATTRIBUTE_TENANTS, ATTRIBUTE_USER, Operation, OperationKind, OperationStatus, kind_of
from resolvers.cursors import Cursors
from resolvers.history import operation_of
from resolvers.index import MOST, OperationIndex, Row
from resolvers.paging import Page
from resolvers.start import RPC_SECONDS

_CLOSED_KEPT = 5_000
_DESCRIBED_AT_ONCE = 16


class Listing:
    """Lists from the index, scanning Temporal's visibility only where that is cold; closed states are kept."""

    def __init__(self, client: Client, index: OperationIndex, cursors: Cursors) -> None:
        self._client = client
        self._index = index
        self._cursors = cursors
        self._closed: OrderedDict[str, Operation] = OrderedDict()
        self._describing = asyncio.Semaphore(_DESCRIBED_AT_ONCE)

    async def page(
        self,
        viewer: Session,
        *,
        first: int,
        after: str | None,
        kinds: frozenset[OperationKind] | None,
        statuses: frozenset[OperationStatus] | None,
    ) -> Page[Operation]:
        """One page; InvalidCursor where ``after`` is not a cursor of this viewer's list."""
        scope = f"operations\0{viewer.user_id}\0{viewer.tenant_id}"
        rows = [row for row in await self._rows(viewer) if kinds is None or kind_of(row.operation_id) in kinds]
        found: list[tuple[Row, Operation]] | None = None
        if statuses is not None:
            found = [pair for pair in await self._states(rows) if pair[1].state.status in statuses]
            rows = [row for row, _ in found]
        begin = 0 if after is None else _behind(rows, self._cursors.open(scope, after))
        shown = rows[begin : begin + first]
        pairs = await self._states(shown) if found is None else found[begin : begin + first]
        return Page(
            nodes=tuple(operation for _, operation in pairs),
            cursors=tuple(self._cursors.seal(scope, f"{row.started_at!r} {row.operation_id}") for row, _ in pairs),
            has_next=len(rows) > begin + first,
            total=len(rows),
        )

    async def newest(self, viewer: Session, count: int) -> list[Operation]:
        """The viewer's newest operations in the current tenant as they stand, newest first."""
        return [operation for _, operation in await self._states((await self._rows(viewer))[:count])]

    async def _rows(self, viewer: Session) -> list[Row]:
        rows = await self._index.rows(viewer.user_id, viewer.tenant_id)
        if rows is None:
            scanned = await self._scan(viewer)
            await self._index.fill(viewer.user_id, viewer.tenant_id, scanned)
            rows = await self._index.rows(viewer.user_id, viewer.tenant_id)
        return sorted(scanned, reverse=True) if rows is None else rows

    async def _scan(self, viewer: Session) -> list[Row]:
        """What Temporal lists of the viewer in this tenant; the ids in the query are our own: nothing to quote."""
        query = f"{ATTRIBUTE_USER} = '{viewer.user_id}' AND {ATTRIBUTE_TENANTS} = '{viewer.tenant_id}'"
        rows: list[Row] = []
        async for execution in self._client.list_workflows(query, limit=MOST, rpc_timeout=RPC_SECONDS):
            try:
                operation = await operation_of(execution, self._client)
            except OperationNotFound:
                continue
            rows.append(Row(operation.started_at.timestamp(), operation.id))
            self._keep(operation)
        return rows

    async def _states(self, rows: list[Row]) -> list[tuple[Row, Operation]]:
        """The rows with their states; one that Temporal no longer has is left out."""
        states = await asyncio.gather(*(self._state(row.operation_id) for row in rows))
        return [(row, state) for row, state in zip(rows, states, strict=True) if state is not None]

    async def _state(self, operation_id: str) -> Operation | None:
        if kept := self._closed.get(operation_id):
            self._closed.move_to_end(operation_id)
            return kept
        async with self._describing:
            try:
                description = await self._client.get_workflow_handle(operation_id).describe(rpc_timeout=RPC_SECONDS)
            except RPCError as error:
                if error.status == RPCStatusCode.NOT_FOUND:
                    return None
                raise
        operation = await operation_of(description, self._client)
        self._keep(operation)
        return operation

    def _keep(self, operation: Operation) -> None:
        if operation.is_closed:
            self._closed[operation.id] = operation
            if len(self._closed) > _CLOSED_KEPT:
                self._closed.popitem(last=False)


def _behind(rows: list[Row], cursor: str) -> int:
    """Where the page after the cursor's row begins, whether or not that row still stands."""
    try:
        started_at, operation_id = cursor.split(" ")
        row = Row(float(started_at), operation_id)
    except ValueError as error:
        raise InvalidCursor() from error
    return next((place for place, other in enumerate(rows) if other < row), len(rows))
