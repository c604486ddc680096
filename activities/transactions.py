"""A transaction that a cancellation cannot tear apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import get_connections
from tortoise.transactions import in_transaction

from infrastructure.tasks import finish

Answer = TypeVar("Answer")


async def atomic(act: Callable[[], Awaitable[Answer]]) -> Answer:
    """Run ``act`` in a transaction, to its end even where the caller is cancelled meanwhile.

    Tortoise keeps its lock (SQLite) or its pooled connection (PostgreSQL) for ever when it is cancelled while it begins
    a transaction; then every later one would wait for it.
    """
    return await finish(_run(act), name="a transaction")


async def _run(act: Callable[[], Awaitable[Answer]]) -> Answer:
    async with in_transaction():
        return await act()


def current_connection() -> BaseDBAsyncClient:
    """The connection of the process's one database; inside a transaction, the transaction's connection."""
    (connection,) = get_connections().all()
    return connection
