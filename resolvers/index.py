"""Which operations a user has in a tenant, newest first, without asking Temporal's visibility each time.

The index is a copy that may be lost: it is filled from one visibility scan and kept by every start. Temporal allows a
namespace ten visibility requests a second and answers them late, so an operation that was just started is known here
first.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

FRESH_SECONDS = 30.0
"""How long one process trusts its own index, for it does not hear of starts elsewhere."""
SHARED_FRESH_SECONDS = 600
"""How long the shared index is trusted: every start is in it, so only what Temporal has dropped needs a new scan."""
MOST = 2_000
"""Operations kept a user and tenant; older ones are beyond the list."""

STARTING_SECONDS = 30.0
"""An operation is entered before Temporal has it. No start takes longer, whatever the clocks of others show."""
_ADD = """
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, ARGV[1], ARGV[2])
  redis.call('ZREMRANGEBYRANK', key, 0, ARGV[3])
  redis.call('EXPIRE', key, ARGV[4])
end
"""
"""As one script, for a command costs the client more than the server."""

log = structlog.get_logger()


class Row(NamedTuple):
    """An operation's place in the list; greater is newer."""

    started_at: float
    operation_id: str


class OperationIndex(Protocol):
    async def add(self, user_id: str, tenant_id: str, row: Row) -> None:
        """Enter one that is just being started, or was just learned of."""

    async def fill(self, user_id: str, tenant_id: str, rows: Iterable[Row]) -> None:
        """Enter what a scan found; from now on the index answers for a while."""

    async def rows(self, user_id: str, tenant_id: str) -> list[Row] | None:
        """Newest first; None where a scan is due."""

    async def fill_active(self, user_id: str, tenant_id: str, rows: Iterable[Row]) -> None:
        """Enter what a scan for running operations found; from now on the index answers what is active for a while."""

    async def active(self, user_id: str, tenant_id: str) -> list[Row] | None:
        """Those that are not known to have closed, newest first; None where a scan is due."""

    async def close(self, user_id: str, tenant_id: str, operation_id: str) -> None:
        """Take one that has closed out of those that are active."""

    async def drop(self, user_id: str, tenant_id: str, row: Row) -> None:
        """Take one out that Temporal does not have, unless its start may still be under way."""


@dataclass
class _List:
    rows: dict[str, float] = field(default_factory=dict)
    fresh_until: float = 0.0

    def enter(self, rows: Iterable[Row]) -> None:
        self.rows.update((row.operation_id, row.started_at) for row in rows)
        for _, operation_id in sorted((at, name) for name, at in self.rows.items())[:-MOST]:
            del self.rows[operation_id]

    def newest_first(self) -> list[Row] | None:
        if time.monotonic() >= self.fresh_until:
            return None
        return sorted((Row(at, operation_id) for operation_id, at in self.rows.items()), reverse=True)


@dataclass
class _Shelf:
    all: _List = field(default_factory=_List)
    active: _List = field(default_factory=_List)


class MemoryIndex:
    """For one process: the last ten thousand users and tenants."""

    def __init__(self, *, fresh_seconds: float = FRESH_SECONDS, shelves: int = 10_000) -> None:
        self._fresh_seconds = fresh_seconds
        self._most_shelves = shelves
        self._shelves: OrderedDict[tuple[str, str], _Shelf] = OrderedDict()

    async def add(self, user_id: str, tenant_id: str, row: Row) -> None:
        shelf = self._shelf(user_id, tenant_id)
        shelf.all.enter([row])
        shelf.active.enter([row])

    async def fill(self, user_id: str, tenant_id: str, rows: Iterable[Row]) -> None:
        self._fill(self._shelf(user_id, tenant_id).all, rows)

    async def rows(self, user_id: str, tenant_id: str) -> list[Row] | None:
        return self._shelf(user_id, tenant_id).all.newest_first()

    async def fill_active(self, user_id: str, tenant_id: str, rows: Iterable[Row]) -> None:
        self._fill(self._shelf(user_id, tenant_id).active, rows)

    async def active(self, user_id: str, tenant_id: str) -> list[Row] | None:
        return self._shelf(user_id, tenant_id).active.newest_first()

    async def close(self, user_id: str, tenant_id: str, operation_id: str) -> None:
        self._shelf(user_id, tenant_id).active.rows.pop(operation_id, None)

    async def drop(self, user_id: str, tenant_id: str, row: Row) -> None:
        if not _may_be_starting(row):
            shelf = self._shelf(user_id, tenant_id)
            shelf.all.rows.pop(row.operation_id, None)
            shelf.active.rows.pop(row.operation_id, None)

    def _fill(self, list_: _List, rows: Iterable[Row]) -> None:
        list_.enter(rows)
        list_.fresh_until = time.monotonic() + self._fresh_seconds

    def _shelf(self, user_id: str, tenant_id: str) -> _Shelf:
        shelf = self._shelves.setdefault((user_id, tenant_id), _Shelf())
        self._shelves.move_to_end((user_id, tenant_id))
        if len(self._shelves) > self._most_shelves:
            self._shelves.popitem(last=False)
        return shelf


class RedisIndex:
    """For any number of processes: two sorted sets a user and tenant, each with a mark that says it was filled.

    Without its Redis it knows nothing and keeps nobody from anything: each list is then a scan.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._add = redis.register_script(_ADD)

    async def add(self, user_id: str, tenant_id: str, row: Row) -> None:
        with _doing_without():
            await self._add(
                keys=[_key(user_id, tenant_id), _active_key(user_id, tenant_id)],
                args=[row.started_at, row.operation_id, -MOST - 1, SHARED_FRESH_SECONDS * 2],
            )

    async def fill(self, user_id: str, tenant_id: str, rows: Iterable[Row]) -> None:
        await self._fill(_key(user_id, tenant_id), rows)

    async def rows(self, user_id: str, tenant_id: str) -> list[Row] | None:
        return await self._newest_first(_key(user_id, tenant_id))

    async def fill_active(self, user_id: str, tenant_id: str, rows: Iterable[Row]) -> None:
        await self._fill(_active_key(user_id, tenant_id), rows)

    async def active(self, user_id: str, tenant_id: str) -> list[Row] | None:
        return await self._newest_first(_active_key(user_id, tenant_id))

    async def close(self, user_id: str, tenant_id: str, operation_id: str) -> None:
        with _doing_without():
            await self._redis.zrem(_active_key(user_id, tenant_id), operation_id)

    async def drop(self, user_id: str, tenant_id: str, row: Row) -> None:
        if _may_be_starting(row):
            return
        with _doing_without():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.zrem(_key(user_id, tenant_id), row.operation_id)
                pipeline.zrem(_active_key(user_id, tenant_id), row.operation_id)
                await pipeline.execute()

    async def _fill(self, key: str, rows: Iterable[Row]) -> None:
        with _doing_without():
            await self._enter(key, rows)
            await self._redis.set(f"{key}:filled", 1, ex=SHARED_FRESH_SECONDS)

    async def _newest_first(self, key: str) -> list[Row] | None:
        filled, entries = False, []
        with _doing_without():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.exists(f"{key}:filled")
                pipeline.zrange(key, 0, MOST - 1, desc=True, withscores=True)
                filled, entries = await pipeline.execute()
        if not filled:
            return None
        return sorted((Row(score, name.decode(errors="replace")) for name, score in entries), reverse=True)

    async def _enter(self, key: str, rows: Iterable[Row]) -> None:
        entries = {row.operation_id: row.started_at for row in rows}
        if not entries:
            return
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.zadd(key, entries)
            pipeline.zremrangebyrank(key, 0, -MOST - 1)
            pipeline.expire(key, SHARED_FRESH_SECONDS * 2)
            await pipeline.execute()


def _may_be_starting(row: Row) -> bool:
    return row.started_at > time.time() - STARTING_SECONDS


@contextmanager
def _doing_without() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        log.warning("the index of operations is away", error=repr(error))


def _key(user_id: str, tenant_id: str) -> str:
    return f"operations:{user_id}:{tenant_id}"


def _active_key(user_id: str, tenant_id: str) -> str:
    return f"{_key(user_id, tenant_id)}:active"
