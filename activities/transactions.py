"""A transaction that a cancellation cannot tear apart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tortoise.transactions import in_transaction

Answer = TypeVar("Answer")


async def in_one_transaction(act: Callable[[], Awaitable[Answer]]) -> Answer:
    """Run ``act`` in a transaction, to its end even where the caller is cancelled meanwhile.

    Tortoise keeps its lock (SQLite) or its pooled connection (PostgreSQL) for ever when it is cancelled while it begins
    a transaction; then every later one would wait for it.
    """
    return await asyncio.shield(_run(act))


async def _run(act: Callable[[], Awaitable[Answer]]) -> Answer:
    async with in_transaction():
        return await act()
