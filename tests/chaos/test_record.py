"""The record of operations agrees with Temporal again after terminations, resets and a restored database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, suppress
from uuid import uuid4

import asyncpg
import pytest
from temporalio.service import RPCError

from tests.servers import HOST, reset_workflow
from tools.chaos.client import ONBOARD, ChaosClient
from tools.chaos.collect import collect_observations, wait_until_idle, wait_until_repaired
from tools.chaos.environment import PASSWORD, ChaosEnvironment
from tools.chaos.invariants import find_violations

TABLES = ("operations_record", "operations_state", "operations_repair_progress")


@pytest.fixture
async def client(environment: ChaosEnvironment) -> AsyncIterator[ChaosClient]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(aclosing(ChaosClient(environment, environment.accounts[0], 0)))
        await client.sign_in()
        yield client


async def back_up(database: asyncpg.Connection[asyncpg.Record]) -> None:
    await database.execute("DROP SCHEMA IF EXISTS backup CASCADE; CREATE SCHEMA backup")
    for table in TABLES:
        await database.execute(f"CREATE TABLE backup.{table} AS TABLE public.{table}")


async def restore(database: asyncpg.Connection[asyncpg.Record]) -> None:
    async with database.transaction():
        for table in TABLES:
            await database.execute(f"DELETE FROM public.{table}")
            await database.execute(f"INSERT INTO public.{table} TABLE backup.{table}")


async def start_and_terminate(environment: ChaosEnvironment, client: ChaosClient) -> list[str]:
    """Start an onboarding and terminate it; return its id if it was still running."""
    person = {"email": f"{uuid4().hex}@example.com", "name": "New", "password": PASSWORD, "waitSeconds": 0}
    operation_id = (await client.execute_with_retries(ONBOARD, {"input": person}))["onboardUser"]["operation"]["id"]
    with suppress(RPCError):
        await (await environment.temporal()).get_workflow_handle(operation_id).terminate()
        return [operation_id]
    return []


@pytest.mark.timeout(400)
async def test_the_record_agrees_with_temporal_after_a_restored_database(
    environment: ChaosEnvironment, client: ChaosClient
) -> None:
    database = await environment.database()
    try:
        await client.switch(uuid4().hex)
        before, _ = await client.onboard(uuid4().hex)
        running = asyncio.create_task(client.onboard(uuid4().hex))
        await back_up(database)
        await running
        after, _ = await client.onboard(uuid4().hex)
        terminated = await start_and_terminate(environment, client)
        for operation_id in (before, after):
            await reset_workflow(f"{HOST}:{environment.ports['temporal']}", operation_id)
        await wait_until_idle(environment, [before, after])
        await restore(database)
    finally:
        await database.close()
    await wait_until_repaired(environment, terminated, seconds=120)
    await client.switch(uuid4().hex)
    await wait_until_idle(environment, [told.operation_id for told in client.history.acknowledged])
    assert find_violations(await collect_observations(environment, [client.history])) == []
