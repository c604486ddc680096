"""Database transactions that a cancellation of the caller does not interrupt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import get_connections
from tortoise.transactions import in_transaction

from infrastructure.tasks import shielded

Result = TypeVar("Result")


async def atomic(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run ``work`` in a transaction and return its result; the transaction ends even if the caller is cancelled.

    Tortoise never releases its lock (SQLite) or its pooled connection (PostgreSQL) if it is cancelled while it begins a
    transaction, so every later transaction would wait for ever.
    """
    return await shielded(_run(work), name="a transaction")


async def _run(work: Callable[[], Awaitable[Result]]) -> Result:
    async with in_transaction():
        return await work()


def current_connection() -> BaseDBAsyncClient:
    """Return the connection of the process's database; inside a transaction, the connection of the transaction."""
    (connection,) = get_connections().all()
    return connection
