"""Access of the gateway to the record of operations: starts are written in the background, and lists are read.

A list waits until the starts of this process that concern it are written, so that it contains what was just started.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, TypeAlias

from contracts.auth import Session
from contracts.callers import Caller
from contracts.errors import InvalidCursor
from contracts.operation_records import (
    MAX_PAGE,
    OperationRecord,
    RecordFilter,
    RecordLookup,
    RecordPageRequest,
    RecordPosition,
    Subject,
)
from contracts.operation_statistics import OperationStatistics, StatisticsRequest
from contracts.operations import Operation, OperationStatus
from infrastructure.record_buffer import RecordBuffer
from resolvers.clients.operations import OperationsClient
from resolvers.following.hub import ProgressHub
from resolvers.operations.cursors import Cursors

OPEN_STATUSES = tuple(status for status in OperationStatus if not status.is_closed)
MAX_ACTIVE_OPERATIONS = 50
"""Maximum number of operations on a dashboard, newest first."""
MAX_TRACKED_VIEWERS = 10_000
"""Number of viewers for whom this process remembers the last known active operations."""


CloseObserver: TypeAlias = Callable[[Operation], Awaitable[None]]
"""Callback that receives the last known state of an operation that has closed."""


class OperationPage(NamedTuple):
    """One page of operations.

    ``cursors`` has one cursor for each of the ``nodes``. ``total`` counts the matching operations, up to 10,001, in a
    request of its own.
    """

    nodes: tuple[Operation, ...]
    cursors: tuple[str, ...]
    has_previous: bool
    has_next: bool
    total: Callable[[], Coroutine[None, None, int]]


class OperationRecords:
    """Client of the record of operations that adds a write buffer and signed cursors; one per process.

    Args:
        on_closed: Receives each operation that is found to have closed.
    """

    def __init__(self, client: OperationsClient, hub: ProgressHub, cursors: Cursors, on_closed: CloseObserver) -> None:
        self._on_closed = on_closed
        self._active: OrderedDict[tuple[str, str], dict[str, Operation]] = OrderedDict()
        self._client = client
        self._hub = hub
        self._cursors = cursors
        self._buffer = RecordBuffer(client.write)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Write added states in the background while the block runs."""
        return self._buffer.running()

    def add(self, operation: Operation, subject: Subject | None = None, retry_of: str | None = None) -> None:
        """Add the state to the write buffer. A write that fails is repaired later from Temporal."""
        self._buffer.add(OperationRecord(operation=operation, subject=subject, retry_of=retry_of))
        for tenant_id in operation.tenant_ids:
            active = self._last_active(operation.user_id, tenant_id)
            if not operation.is_closed:
                active[operation.id] = operation
                if len(active) > MAX_ACTIVE_OPERATIONS:
                    del active[next(iter(active))]
            else:
                active.pop(operation.id, None)

    async def wait_while_pending(self, operation_id: str) -> None:
        """Wait until the operation is in the record, or until a write has failed."""
        await self._buffer.wait_while_pending(lambda record: record.operation.id == operation_id, urgent=False)

    async def page(self, caller: Caller, request: RecordPageRequest, *, after: str | None) -> OperationPage:
        """Return one page of the caller's operations in the current tenant, or of the operations of all members.

        A cursor is valid for the same caller, tenant and order only.

        Raises:
            InvalidCursor: ``after`` is not a cursor of the same list in the same order.
            PermissionDenied: the operations of all members require ``operations:administer``.
            ServiceUnavailable: the record is unavailable.
        """
        scope = _scope(caller, request)
        if after is not None:
            request = request.model_copy(update={"after": _position(self._cursors.verify(scope, after))})
        await self._wait_for_own_starts(caller, request)
        page = await self._client.list_operations(caller, request)

        async def total() -> int:
            counting = request.model_copy(update={"first": 0, "after": None, "with_total": True})
            return (await self._client.list_operations(caller, counting)).total or 0

        return OperationPage(
            nodes=tuple(self._latest_state(record.operation) for record in page.records),
            cursors=tuple(self._cursors.sign(scope, f"{each.key} {each.id}") for each in page.positions),
            has_previous=after is not None,
            has_next=page.has_next,
            total=total,
        )

    async def newest(self, viewer: Session, count: int = MAX_PAGE) -> list[Operation]:
        """Return the newest operations of the viewer in the current tenant, newest first."""
        return await self._first_page(viewer, RecordPageRequest(first=count))

    async def active(self, viewer: Session) -> list[Operation]:
        """Return the newest operations of the viewer in the current tenant that have not closed.

        An operation that was active at the last call and is not any more has closed; ``on_closed`` receives it.
        """
        found = await self._first_page(
            viewer, RecordPageRequest(first=MAX_ACTIVE_OPERATIONS, filter=RecordFilter(statuses=OPEN_STATUSES))
        )
        active = {operation.id: operation for operation in found if not operation.is_closed}
        known = self._last_active(viewer.user_id, viewer.tenant_id)
        for operation in [known.pop(id_) for id_ in list(known) if id_ not in active]:
            await self._on_closed(operation)
        known.update(active)
        return list(active.values())

    async def statistics(self, caller: Caller, request: StatisticsRequest) -> OperationStatistics:
        """Return statistics of the operations of all members.

        Raises:
            PermissionDenied: the statistics require ``operations:administer``.
            ServiceUnavailable: the record is unavailable.
        """
        return await self._client.statistics(caller, request)

    async def look_up(self, operation_ids: Sequence[str]) -> RecordLookup:
        """Return the records with these ids, at most 500, without a check of access."""
        return await self._client.look_up(Caller(), operation_ids)

    async def records(self, operation_ids: Sequence[str]) -> dict[str, OperationRecord]:
        """Return the records with these ids, by id, without a check of access."""
        return {record.operation.id: record for record in (await self.look_up(operation_ids)).records}

    def _last_active(self, user_id: str, tenant_id: str) -> dict[str, Operation]:
        """Return the operations that were active at the last call for this user and tenant, by id."""
        active = self._active[user_id, tenant_id] = self._active.pop((user_id, tenant_id), {})
        if len(self._active) > MAX_TRACKED_VIEWERS:
            self._active.popitem(last=False)
        return active

    async def _first_page(self, viewer: Session, request: RecordPageRequest) -> list[Operation]:
        caller = Caller(user_id=viewer.user_id, tenant_id=viewer.tenant_id, permissions=viewer.permissions)
        return list((await self.page(caller, request, after=None)).nodes)

    async def _wait_for_own_starts(self, caller: Caller, request: RecordPageRequest) -> None:
        if request.of_all_members:
            await self._buffer.wait_while_pending(lambda record: caller.tenant_id in record.operation.tenant_ids)
        else:
            await self._buffer.wait_while_pending(lambda record: record.operation.user_id == caller.user_id)

    def _latest_state(self, operation: Operation) -> Operation:
        """Return the state that a watcher of this process holds, if it is newer: the record may lag."""
        followed = self._hub.current(operation.id)
        if followed is None or followed.position.as_tuple() <= operation.position.as_tuple():
            return operation
        return followed


def _scope(caller: Caller, request: RecordPageRequest) -> str:
    """Return the scope of cursors: a cursor is valid for the same owner, tenant and order only."""
    whose = "*" if request.of_all_members else caller.user_id
    return f"operations\0{whose}\0{caller.tenant_id}\0{request.order}"


def _position(text: str) -> RecordPosition:
    try:
        key, id_ = text.split(" ")
        return RecordPosition(key=int(key), id=id_)
    except ValueError as error:
        raise InvalidCursor() from error
