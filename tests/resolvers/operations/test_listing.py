"""Lists of operations: pages, cursors and active operations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.client import Client

from contracts.auth import Session
from contracts.base import new_id
from contracts.errors import InvalidCursor
from contracts.operation_records import OperationOrder, RecordFilter, RecordPageRequest
from contracts.operations import (
    Operation,
    OperationKind,
    OperationState,
    OperationStatus,
    Position,
    kind_of,
    operation_id,
)
from infrastructure.signing.secret_keys import SecretKeys
from resolvers.following.hub import ProgressHub
from resolvers.operations.cursors import Cursors
from resolvers.operations.records import MAX_ACTIVE_OPERATIONS, OperationRecords
from tests.resolvers.operations.record_of_operations import Record, Replica, caller, running_record, viewer, with_state
from tests.resolvers.scripted import TENANT

EPOCH = datetime(2026, 3, 1, tzinfo=UTC)

start_times = st.integers(0, 20).map(lambda tenths: EPOCH + timedelta(seconds=tenths / 10))
"""Few values, so that operations share them."""
kinds = st.sampled_from(OperationKind)
starts = st.lists(st.tuples(start_times, kinds), max_size=12)
statuses = st.none() | st.frozensets(st.sampled_from(OperationStatus), min_size=1)
Starts = list[tuple[datetime, OperationKind]]


def started(user: Session, at: datetime, kind: OperationKind = OperationKind.FILE_UPLOAD) -> Operation:
    """Return an operation whose status is derived from its id."""
    id = operation_id(b"", kind, tenant_id="", user_id="", key=None)
    status = list(OperationStatus)[int(id[-1], 16) % len(OperationStatus)]
    return Operation(
        id=id,
        kind=kind,
        user_id=user.user_id,
        tenant_ids=(TENANT,),
        state=OperationState(started_at=at, status=status, steps=()),
        closed_at=at if status.is_closed else None,
        position=Position(revision=0, closed=status.is_closed),
    )


async def ignore(_operation: Operation) -> None:
    pass


async def read_all_pages(
    records: OperationRecords,
    before: Starts,
    during: list[Starts],
    first: int,
    kinds: frozenset[OperationKind] | None,
    statuses: frozenset[OperationStatus] | None,
) -> None:
    """Read all pages while operations start between two pages, and check that none is listed twice or skipped."""
    user = viewer()
    operations: dict[str, Operation] = {}

    def add(starts: Iterable[tuple[datetime, OperationKind]]) -> None:
        for at, kind in starts:
            operation = started(user, at, kind)
            operations[operation.id] = operation
            records.add(operation)

    def newest_first() -> list[str]:
        return sorted(operations, key=lambda id: (operations[id].started_at, id), reverse=True)

    def matches(id: str) -> bool:
        return (kinds is None or kind_of(id) in kinds) and (statuses is None or operations[id].state.status in statuses)

    add(before)
    existing = newest_first()
    filter = RecordFilter(
        kinds=None if kinds is None else tuple(kinds), statuses=None if statuses is None else tuple(statuses)
    )
    listed: list[str] = []
    after, more, added = None, True, iter(during)
    while more:
        page = await records.page(caller(user), RecordPageRequest(first=first, filter=filter), after=after)
        assert len(page.nodes) == len(page.cursors) <= first
        assert await page.total() == sum(matches(id) for id in operations)
        listed += [operation.id for operation in page.nodes]
        after, more = page.cursors[-1] if page.cursors else after, page.has_next
        add(next(added, ()))

    assert len(set(listed)) == len(listed), "listed twice"
    assert [id for id in listed if id in existing] == [id for id in existing if matches(id)], "skipped, or out of order"
    assert listed == [id for id in newest_first() if id in listed], "out of order"
    assert all(matches(id) for id in listed)


@settings(max_examples=40, deadline=None)
@given(
    before=starts,
    during=st.lists(starts, max_size=4),
    first=st.integers(1, 5),
    kinds=st.none() | st.frozensets(kinds, min_size=1),
    statuses=statuses,
)
def test_pages_contain_each_operation_once_while_operations_start(
    temporal_address: str,
    before: Starts,
    during: list[Starts],
    first: int,
    kinds: frozenset[OperationKind] | None,
    statuses: frozenset[OperationStatus] | None,
) -> None:
    async def run() -> None:
        client = await Client.connect(temporal_address, lazy=True)
        with TemporaryDirectory() as folder:
            async with running_record(Path(folder)) as record, ProgressHub(client) as hub:
                records = OperationRecords(record.client(), hub, Cursors(SecretKeys(b"key")), ignore)
                async with records.running():
                    await read_all_pages(records, before, during, first, kinds, statuses)

    asyncio.run(run())


async def test_active_operations_are_those_that_have_not_closed(temporal_client: Client, record: Record) -> None:
    closed: list[str] = []

    async def on_closed(operation: Operation) -> None:
        closed.append(operation.id)

    user, replica = viewer(), Replica(temporal_client, record, on_closed=on_closed)
    running = [
        with_state(started(user, EPOCH + timedelta(seconds=n)), status=OperationStatus.RUNNING, revision=1).operation
        for n in range(4)
    ]
    async with replica.running():
        for operation in running:
            replica.records.add(operation)
        newest_first = [operation.id for operation in reversed(running)]
        assert [operation.id for operation in await replica.records.active(user)] == newest_first
        assert closed == []

        await record.service.write([with_state(running[-1], status=OperationStatus.COMPLETED, revision=2)])
        assert [operation.id for operation in await replica.records.active(user)] == newest_first[1:]
        assert closed == [newest_first[0]]
        await replica.records.active(user)
        assert closed == [newest_first[0]]
        assert await replica.records.active(viewer()) == []


async def test_active_operations_are_limited_to_the_newest(temporal_client: Client, record: Record) -> None:
    user, replica = viewer(), Replica(temporal_client, record)
    async with replica.running():
        for n in range(MAX_ACTIVE_OPERATIONS + 5):
            moment = EPOCH + timedelta(seconds=n)
            replica.records.add(with_state(started(user, moment), status=OperationStatus.WAITING, revision=1).operation)
        active = await replica.records.active(user)
    assert [operation.started_at for operation in active] == [
        EPOCH + timedelta(seconds=n) for n in reversed(range(5, MAX_ACTIVE_OPERATIONS + 5))
    ]


async def test_rejects_a_cursor_of_another_list_or_order(temporal_client: Client, record: Record) -> None:
    user, other, replica = viewer(), viewer(new_id("usr")), Replica(temporal_client, record)
    async with replica.running():
        for owner in (user, other):
            replica.records.add(started(owner, EPOCH))
        (cursor,) = (await replica.records.page(caller(user), RecordPageRequest(first=1), after=None)).cursors
        await replica.records.page(caller(user), RecordPageRequest(first=1), after=cursor)
        for owner, order in ((other, OperationOrder.STARTED_AT_DESC), (user, OperationOrder.DURATION_DESC)):
            with pytest.raises(InvalidCursor):
                await replica.records.page(caller(owner), RecordPageRequest(first=1, order=order), after=cursor)
