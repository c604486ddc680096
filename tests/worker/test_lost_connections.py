"""A connection to PostgreSQL that is lost within a transaction is classified as a network error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tortoise import Tortoise

from activities.transactions import atomic
from contracts.errors import ServiceUnavailable
from tests.servers import HOST, Postgres
from tools.chaos.proxy import NORMAL, RESETTING, Proxy
from worker.database import database
from worker.error_classification import classify


@pytest.fixture
async def proxy(postgres: Postgres) -> AsyncIterator[Proxy]:
    """A proxy before PostgreSQL, through which the database is open."""
    name = postgres.new_database().rpartition("/")[2]
    async with Proxy(postgres.port) as proxy, database(f"postgres://postgres@{HOST}:{proxy.port}/{name}"):
        yield proxy


async def execute(statement: str) -> None:
    await Tortoise.get_connection("postgres").execute_query(statement)


async def check_unavailable(proxy: Proxy, act: Callable[[], Awaitable[None]]) -> None:
    with pytest.raises(Exception) as found:  # noqa: PT011 - the class depends on PostgreSQL and the driver
        await atomic(act)
    assert isinstance(classify(found.value).final_error, ServiceUnavailable), repr(found.value)
    await proxy.set_conditions(NORMAL)
    await atomic(lambda: execute("SELECT 1"))


async def test_a_connection_lost_between_two_statements_is_a_network_error(proxy: Proxy) -> None:
    async def act() -> None:
        await execute("SELECT 1")
        await proxy.set_conditions(RESETTING)
        await asyncio.sleep(0.1)
        await execute("SELECT 2")

    await check_unavailable(proxy, act)


async def test_a_connection_lost_during_a_statement_is_a_network_error(proxy: Proxy) -> None:
    async def act() -> None:
        sleeping = asyncio.create_task(execute("SELECT pg_sleep(5)"))
        await asyncio.sleep(0.1)
        await proxy.set_conditions(RESETTING)
        await sleeping

    await check_unavailable(proxy, act)
