"""Lists of operations: pages newest first, from the index and the states it leads to."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple, Protocol

from contracts.auth import Session
from contracts.errors import InvalidCursor
from contracts.operations import Operation, OperationKind, OperationStatus, kind_of
from infrastructure.fair_queue import Requester
from resolvers.cursors import Cursors
from resolvers.index import OperationIndex, Row
from resolvers.paging import Page

_DESCRIBED_AT_MOST = 100
"""Of the states that one list wants and this process does not know; more of them are asked for in one scan."""


class Newest(NamedTuple):
    """The ids of the newest operations, and the states of those among them that were not known, newest first."""

    ids: frozenset[str]
    states: tuple[Operation, ...]


class KnownStates(Protocol):
    async def of(self, operation_ids: Iterable[str], requester: Requester) -> list[Operation | None]:
        """In the order asked for; None in the place of one that is no more."""

    def unknown(self, operation_ids: Iterable[str]) -> int:
        """How many of them would have to be asked for."""

    def has_moved(self, operation_id: str) -> bool:
        """Whether word has come that an operation moved which was kept as closed."""

    def keep(self, operation: Operation) -> None:
        """Keep it, if it has closed."""


class Scans(Protocol):
    async def operations(self, user_id: str, tenant_id: str) -> list[Operation]:
        """The newest of a user's operations in a tenant, by Temporal's visibility."""


class Listing:
    """Lists from the index, with a scan of Temporal's visibility only where that is cold."""

    def __init__(self, states: KnownStates, scans: Scans, index: OperationIndex, cursors: Cursors) -> None:
        self._states = states
        self._scans = scans
        self._index = index
        self._cursors = cursors

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
            found = [pair for pair in await self._paired(viewer, rows) if pair[1].state.status in statuses]
            rows = [row for row, _ in found]
        begin = 0 if after is None else _behind(rows, self._cursors.open(scope, after))
        shown = rows[begin : begin + first]
        pairs = await self._paired(viewer, shown) if found is None else found[begin : begin + first]
        return Page(
            nodes=tuple(operation for _, operation in pairs),
            cursors=tuple(self._cursors.seal(scope, f"{row.started_at!r} {row.operation_id}") for row, _ in pairs),
            has_next=len(rows) > begin + first,
            total=len(rows),
        )

    async def newest(self, viewer: Session, count: int, known: Container[str] = ()) -> Newest:
        """The viewer's newest operations in the current tenant; a known one again where it was reset."""
        rows = (await self._rows(viewer))[:count]
        unknown = [row for row in rows if row.operation_id not in known or self._states.has_moved(row.operation_id)]
        return Newest(
            ids=frozenset(row.operation_id for row in rows),
            states=tuple(operation for _, operation in await self._paired(viewer, unknown)),
        )

    async def _rows(self, viewer: Session) -> list[Row]:
        rows = await self._index.rows(viewer.user_id, viewer.tenant_id)
        if rows is not None:
            return rows
        scanned = await self._scan(viewer)
        await self._index.fill(viewer.user_id, viewer.tenant_id, scanned)
        rows = await self._index.rows(viewer.user_id, viewer.tenant_id)
        return sorted(scanned, reverse=True) if rows is None else rows

    async def _scan(self, viewer: Session) -> list[Row]:
        operations = await self._scans.operations(viewer.user_id, viewer.tenant_id)
        for operation in operations:
            self._states.keep(operation)
        return [Row(operation.started_at.timestamp(), operation.id) for operation in operations]

    async def _paired(self, viewer: Session, rows: list[Row]) -> list[tuple[Row, Operation]]:
        """The rows with their states; one that Temporal does not have (any more) is left out."""
        ids = [row.operation_id for row in rows]
        if self._states.unknown(ids) > _DESCRIBED_AT_MOST:
            await self._scan(viewer)
        states = await self._states.of(ids, Requester(viewer.user_id, viewer.user_id))
        for row, state in zip(rows, states, strict=True):
            if state is None:
                await self._index.drop(viewer.user_id, viewer.tenant_id, row)
        return [(row, state) for row, state in zip(rows, states, strict=True) if state is not None]


def _behind(rows: list[Row], cursor: str) -> int:
    """Where the page after the cursor's row begins, whether or not that row still stands."""
    try:
        started_at, operation_id = cursor.split(" ")
        row = Row(float(started_at), operation_id)
    except ValueError as error:
        raise InvalidCursor() from error
    return next((place for place, other in enumerate(rows) if other < row), len(rows))
