"""Races on PostgreSQL that come out the same each time: a row is held until all who want it wait for it in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg

Result = TypeVar("Result")


class HeldRow:
    """A row that a transaction of another connection holds."""

    def __init__(
        self, holding: asyncpg.Connection[asyncpg.Record], watching: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        self._holding = holding
        self._watching = watching
        self._waiting = 0

    async def queue(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Begin the work, and return once it waits for the row, behind those before it."""
        task = asyncio.create_task(work)
        self._waiting += 1
        async with asyncio.timeout(10):
            while await self._blocked() < self._waiting:
                if task.done():
                    task.result()
                    raise AssertionError("It did not wait for the row.")
                await asyncio.sleep(0.01)
        return task

    async def execute(self, statement: str, *values: object) -> None:
        """Run the statement in the transaction that holds the row."""
        await self._holding.execute(statement, *values)

    async def _blocked(self) -> int:
        """How many connections of this database wait for a lock."""
        return int(
            await self._watching.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )


@asynccontextmanager
async def held_row(url: str, table: str, column: str, value: str) -> AsyncIterator[HeldRow]:
    """Lock the row, or all that have this value, until the block ends."""
    holding, watching = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        async with holding.transaction():
            query = f'SELECT 1 FROM "{table}" WHERE "{column}" = $1 FOR UPDATE'
            assert await holding.fetch(query, value)
            yield HeldRow(holding, watching)
    finally:
        await holding.close()
        await watching.close()
