"""Pages of operations contain each operation once, whatever starts while a client reads them."""

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
from resolvers.operations.records import MAX_ACTIVE, OperationRecords
from tests.resolvers.operations.recorded import Record, Replica, caller, running_record, viewer, with_state
from tests.resolvers.scripted import TENANT

EPOCH = datetime(2026, 3, 1, tzinfo=UTC)

moments = st.integers(0, 20).map(lambda tenths: EPOCH + timedelta(seconds=tenths / 10))
"""Few enough that operations share them."""
kinds = st.sampled_from(OperationKind)
starts = st.lists(st.tuples(moments, kinds), max_size=12)
statuses = st.none() | st.frozensets(st.sampled_from(OperationStatus), min_size=1)
Starts = list[tuple[datetime, OperationKind]]


def started(me: Session, at: datetime, kind: OperationKind = OperationKind.FILE_UPLOAD) -> Operation:
    """An operation whose status follows from its id."""
    id = operation_id(b"", kind, tenant_id="", user_id="", key=None)
    status = list(OperationStatus)[int(id[-1], 16) % len(OperationStatus)]
    return Operation(
        id=id,
        kind=kind,
        user_id=me.user_id,
        tenant_ids=(TENANT,),
        state=OperationState(started_at=at, status=status, steps=()),
        closed_at=at if status.is_closed else None,
        position=Position(revision=0, closed=status.is_closed),
    )


async def ignore(_operation: Operation) -> None:
    pass


async def walk(
    records: OperationRecords,
    before: Starts,
    during: list[Starts],
    first: int,
    kinds: frozenset[OperationKind] | None,
    statuses: frozenset[OperationStatus] | None,
) -> None:
    me = viewer()
    everything: dict[str, Operation] = {}

    def add(several: Iterable[tuple[datetime, OperationKind]]) -> None:
        for at, kind in several:
            operation = started(me, at, kind)
            everything[operation.id] = operation
            records.add(operation)

    def newest_first() -> list[str]:
        return sorted(everything, key=lambda id: (everything[id].started_at, id), reverse=True)

    def is_wanted(id: str) -> bool:
        return (kinds is None or kind_of(id) in kinds) and (statuses is None or everything[id].state.status in statuses)

    add(before)
    there = newest_first()
    filter = RecordFilter(
        kinds=None if kinds is None else tuple(kinds), statuses=None if statuses is None else tuple(statuses)
    )
    met: list[str] = []
    after, more, added = None, True, iter(during)
    while more:
        page = await records.page(caller(me), RecordPageRequest(first=first, filter=filter), after=after)
        assert len(page.nodes) == len(page.cursors) <= first
        assert await page.total() == sum(is_wanted(id) for id in everything)
        met += [operation.id for operation in page.nodes]
        after, more = page.cursors[-1] if page.cursors else after, page.has_next
        add(next(added, ()))

    assert len(set(met)) == len(met), "met twice"
    assert [id for id in met if id in there] == [id for id in there if is_wanted(id)], "skipped, or out of order"
    assert met == [id for id in newest_first() if id in met], "out of order"
    assert all(is_wanted(id) for id in met)


@settings(max_examples=40, deadline=None)
@given(
    before=starts,
    during=st.lists(starts, max_size=4),
    first=st.integers(1, 5),
    kinds=st.none() | st.frozensets(kinds, min_size=1),
    statuses=statuses,
)
def test_each_is_met_once(
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
                    await walk(records, before, during, first, kinds, statuses)

    asyncio.run(run())


async def test_what_is_active_is_what_started_and_has_not_closed(temporal_client: Client, record: Record) -> None:
    closed: list[str] = []

    async def note(operation: Operation) -> None:
        closed.append(operation.id)

    me, replica = viewer(), Replica(temporal_client, record, closed=note)
    running = [
        with_state(started(me, EPOCH + timedelta(seconds=n)), status=OperationStatus.RUNNING, revision=1).operation
        for n in range(4)
    ]
    async with replica.running():
        for operation in running:
            replica.records.add(operation)
        newest_first = [operation.id for operation in reversed(running)]
        assert [operation.id for operation in await replica.records.active(me)] == newest_first
        assert closed == []

        await record.service.write([with_state(running[-1], status=OperationStatus.COMPLETED, revision=2)])
        assert [operation.id for operation in await replica.records.active(me)] == newest_first[1:]
        assert closed == [newest_first[0]]
        await replica.records.active(me)
        assert closed == [newest_first[0]]
        assert await replica.records.active(viewer()) == []


async def test_the_newest_are_active_where_there_are_very_many(temporal_client: Client, record: Record) -> None:
    me, replica = viewer(), Replica(temporal_client, record)
    async with replica.running():
        for n in range(MAX_ACTIVE + 5):
            moment = EPOCH + timedelta(seconds=n)
            replica.records.add(with_state(started(me, moment), status=OperationStatus.WAITING, revision=1).operation)
        active = await replica.records.active(me)
    assert [operation.started_at for operation in active] == [
        EPOCH + timedelta(seconds=n) for n in reversed(range(5, MAX_ACTIVE + 5))
    ]


async def test_a_cursor_of_another_list_or_order_is_refused(temporal_client: Client, record: Record) -> None:
    me, other, replica = viewer(), viewer(new_id("usr")), Replica(temporal_client, record)
    async with replica.running():
        for who in (me, other):
            replica.records.add(started(who, EPOCH))
        (cursor,) = (await replica.records.page(caller(me), RecordPageRequest(first=1), after=None)).cursors
        await replica.records.page(caller(me), RecordPageRequest(first=1), after=cursor)
        for who, order in ((other, OperationOrder.STARTED_AT_DESC), (me, OperationOrder.DURATION_DESC)):
            with pytest.raises(InvalidCursor):
                await replica.records.page(caller(who), RecordPageRequest(first=1, order=order), after=cursor)
