"""Pages of operations: whoever goes through them meets each operation once, whatever starts meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from contracts.auth import Role, Session
from contracts.base import new_id, utc_now
from contracts.errors import InvalidCursor
from contracts.operations import (
    Operation,
    OperationKind,
    OperationState,
    OperationStatus,
    Position,
    kind_of,
    operation_id,
)
from contracts.secret_keys import SecretKeys
from infrastructure.fair_queue import Requester
from resolvers.cursors import Cursors
from resolvers.index import MemoryIndex, OperationIndex, RedisIndex, Row
from resolvers.listing import Listing

EPOCH = datetime(2026, 3, 1, tzinfo=UTC)

moments = st.integers(0, 20).map(lambda tenths: (EPOCH + timedelta(seconds=tenths / 10)).timestamp())
"""Few enough that operations share them."""
kinds = st.sampled_from(OperationKind)
starts = st.lists(st.tuples(moments, kinds), max_size=12)
statuses = st.none() | st.frozensets(st.sampled_from(OperationStatus), min_size=1)


class EveryState:
    """Each operation's state follows from its id; nothing need be asked for."""

    async def of(self, operation_ids: Iterable[str], requester: Requester) -> list[Operation | None]:
        return [operation_named(id) for id in operation_ids]

    def unknown(self, operation_ids: Iterable[str]) -> int:
        return 0

    def has_moved(self, operation_id: str) -> bool:
        return False

    def keep(self, operation: Operation) -> None:
        pass


class NoScans:
    async def operations(self, user_id: str, tenant_id: str) -> list[Operation]:
        return []


@dataclass
class Starts:
    """What a user has started, as a list is told of it."""

    index: OperationIndex
    viewer: Session
    ids: dict[str, float] = field(default_factory=dict)

    async def add(self, started: Iterable[tuple[float, OperationKind]]) -> None:
        for at, kind in started:
            name = operation_id(b"", kind, tenant_id="", user_id="", key=None)
            self.ids[name] = at
            await self.index.add(self.viewer.user_id, self.viewer.tenant_id, Row(at, name))

    def newest_first(self) -> list[str]:
        return sorted(self.ids, key=lambda id: (self.ids[id], id), reverse=True)


def operation_named(id: str) -> Operation:
    kind = kind_of(id)
    assert kind is not None
    status = list(OperationStatus)[int(id[-1], 16) % len(OperationStatus)]
    state = OperationState(started_at=EPOCH, status=status, steps=())
    return Operation(id=id, kind=kind, user_id="", tenant_ids=(), state=state, position=Position(revision=0))


def somebody() -> Session:
    return Session(
        id=new_id("ses"),
        user_id=new_id("usr"),
        tenant_id=new_id("ten"),
        role=Role.MEMBER,
        permissions=(),
        created_at=utc_now(),
        expires_at=utc_now() + timedelta(hours=1),
    )


def listing_of(index: OperationIndex) -> Listing:
    return Listing(EveryState(), NoScans(), index, Cursors(SecretKeys(b"key")))


async def walk(
    index: OperationIndex,
    before: list[tuple[float, OperationKind]],
    meanwhile: list[list[tuple[float, OperationKind]]],
    first: int,
    kinds: frozenset[OperationKind] | None,
    statuses: frozenset[OperationStatus] | None,
) -> None:
    viewer = somebody()
    starts, listing = Starts(index, viewer), listing_of(index)
    await index.fill(viewer.user_id, viewer.tenant_id, [])
    await starts.add(before)
    there = starts.newest_first()
    met: list[str] = []
    after, more, added = None, True, iter(meanwhile)
    while more:
        page = await listing.page(viewer, first=first, after=after, kinds=kinds, statuses=statuses)
        assert len(page.nodes) == len(page.cursors) <= first
        assert page.total >= len(page.nodes)
        met += [operation.id for operation in page.nodes]
        after, more = page.cursors[-1] if page.cursors else after, page.has_next
        await starts.add(next(added, ()))

    def is_wanted(id: str) -> bool:
        operation = operation_named(id)
        return (kinds is None or operation.kind in kinds) and (statuses is None or operation.state.status in statuses)

    assert len(set(met)) == len(met), "met twice"
    assert [id for id in met if id in there] == [id for id in there if is_wanted(id)], "skipped, or out of order"
    assert met == [id for id in starts.newest_first() if id in met], "out of order"
    assert all(is_wanted(id) for id in met)


walks = given(
    before=starts,
    meanwhile=st.lists(starts, max_size=6),
    first=st.integers(1, 5),
    kinds=st.none() | st.frozensets(kinds, min_size=1),
    statuses=statuses,
)


@settings(max_examples=150, deadline=None)
@walks
def test_each_is_met_once_in_one_process(
    before: list[tuple[float, OperationKind]],
    meanwhile: list[list[tuple[float, OperationKind]]],
    first: int,
    kinds: frozenset[OperationKind] | None,
    statuses: frozenset[OperationStatus] | None,
) -> None:
    asyncio.run(walk(MemoryIndex(), before, meanwhile, first, kinds, statuses))


@pytest.fixture(scope="session")
def shared_index(redis_url: str) -> Callable[[Callable[[RedisIndex], Awaitable[None]]], None]:
    def run(act: Callable[[RedisIndex], Awaitable[None]]) -> None:
        async def with_redis() -> None:
            async with Redis.from_url(redis_url) as redis:
                await act(RedisIndex(redis))

        asyncio.run(with_redis())

    return run


@settings(max_examples=60, deadline=None)
@walks
def test_each_is_met_once_where_processes_share_the_list(
    shared_index: Callable[[Callable[[RedisIndex], Awaitable[None]]], None],
    before: list[tuple[float, OperationKind]],
    meanwhile: list[list[tuple[float, OperationKind]]],
    first: int,
    kinds: frozenset[OperationKind] | None,
    statuses: frozenset[OperationStatus] | None,
) -> None:
    shared_index(lambda index: walk(index, before, meanwhile, first, kinds, statuses))


@pytest.mark.parametrize("shared", [False, True])
async def test_what_is_active_is_what_started_and_has_not_closed(redis_url: str, shared: bool) -> None:
    async with Redis.from_url(redis_url) as redis:
        index = RedisIndex(redis) if shared else MemoryIndex()
        me = somebody()
        starts = Starts(index, me)
        await starts.add([(float(n), OperationKind.FILE_UPLOAD) for n in range(4)])
        newest, *_, oldest = starts.newest_first()
        assert await index.active(me.user_id, me.tenant_id) is None, "nobody has looked what ran before"
        older = Row(-1.0, operation_id(b"", OperationKind.LOGIN, tenant_id="", user_id="", key=None))
        await index.fill_active(me.user_id, me.tenant_id, [older])
        await index.close(me.user_id, me.tenant_id, newest)
        active = await index.active(me.user_id, me.tenant_id)
        assert active is not None
        assert [row.operation_id for row in active] == [*starts.newest_first()[1:], older.operation_id]
        assert oldest in {row.operation_id for row in active}
        assert await index.active(me.user_id, "ten_other") is None
        everything = await index.rows(me.user_id, me.tenant_id)
        assert everything is None, "the list of all is filled by itself"


async def test_a_cursor_of_another_list_is_refused() -> None:
    index, me, other = MemoryIndex(), somebody(), somebody()
    for viewer in (me, other):
        await index.fill(viewer.user_id, viewer.tenant_id, [])
        await Starts(index, viewer).add([(1.0, OperationKind.LOGIN)])
    page = await listing_of(index).page(me, first=1, after=None, kinds=None, statuses=None)
    with pytest.raises(InvalidCursor):
        await listing_of(index).page(other, first=1, after=page.cursors[0], kinds=None, statuses=None)
