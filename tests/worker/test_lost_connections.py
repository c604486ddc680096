"""A connection to PostgreSQL that is lost within a transaction is trouble of the network, wherever it is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tortoise import Tortoise

from activities.transactions import atomic
from contracts.errors import ServiceUnavailable
from tests.servers import HOST, Postgres
from tools.chaos.proxy import FAIR, RESETTING, Proxy
from worker.database import database
from worker.error_classification import classify


@pytest.fixture
async def network(postgres: Postgres) -> AsyncIterator[Proxy]:
    """Before PostgreSQL, with our database behind it open."""
    name = postgres.new_database().rpartition("/")[2]
    async with Proxy(postgres.port) as proxy, database(f"postgres://postgres@{HOST}:{proxy.port}/{name}"):
        yield proxy


async def say(statement: str) -> None:
    await Tortoise.get_connection("postgres").execute_query(statement)


async def unavailable(network: Proxy, act: Callable[[], Awaitable[None]]) -> None:
    with pytest.raises(Exception) as found:  # noqa: PT011 - which one is PostgreSQL's and the driver's affair
        await atomic(act)
    assert isinstance(classify(found.value).answer, ServiceUnavailable), repr(found.value)
    await network.turn(FAIR)
    await atomic(lambda: say("SELECT 1"))


async def test_between_two_statements(network: Proxy) -> None:
    async def act() -> None:
        await say("SELECT 1")
        await network.turn(RESETTING)
        await asyncio.sleep(0.1)
        await say("SELECT 2")

    await unavailable(network, act)


async def test_while_a_statement_is_carried_out(network: Proxy) -> None:
    async def act() -> None:
        sleeping = asyncio.create_task(say("SELECT pg_sleep(5)"))
        await asyncio.sleep(0.1)
        await network.turn(RESETTING)
        await sleeping

    await unavailable(network, act)
