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
from tools.chaos.client import ONBOARD, Actor
from tools.chaos.collect import gathered, quiet, repaired
from tools.chaos.environment import PASSWORD, Ground
from tools.chaos.invariants import violations

TABLES = ("operations_record", "operations_state", "operations_repair_progress")


@pytest.fixture
async def actor(ground: Ground) -> AsyncIterator[Actor]:
    async with AsyncExitStack() as stack:
        actor = await stack.enter_async_context(aclosing(Actor(ground, ground.accounts[0], 0)))
        await actor.sign_in()
        yield actor


async def back_up(database: asyncpg.Connection[asyncpg.Record]) -> None:
    await database.execute("DROP SCHEMA IF EXISTS backup CASCADE; CREATE SCHEMA backup")
    for table in TABLES:
        await database.execute(f"CREATE TABLE backup.{table} AS TABLE public.{table}")


async def restore(database: asyncpg.Connection[asyncpg.Record]) -> None:
    async with database.transaction():
        for table in TABLES:
            await database.execute(f"DELETE FROM public.{table}")
            await database.execute(f"INSERT INTO public.{table} TABLE backup.{table}")


async def start_and_terminate(ground: Ground, actor: Actor) -> list[str]:
    """Start an onboarding and terminate it; return its id if it was still running."""
    person = {"email": f"{uuid4().hex}@example.com", "name": "New", "password": PASSWORD, "waitSeconds": 0}
    operation_id = (await actor.ask(ONBOARD, {"input": person}))["onboardUser"]["operation"]["id"]
    with suppress(RPCError):
        await (await ground.temporal()).get_workflow_handle(operation_id).terminate()
        return [operation_id]
    return []


@pytest.mark.timeout(400)
async def test_the_record_agrees_with_temporal_after_a_restored_database(ground: Ground, actor: Actor) -> None:
    database = await ground.database()
    try:
        await actor.switch(uuid4().hex)
        before, _ = await actor.onboard(uuid4().hex)
        running = asyncio.create_task(actor.onboard(uuid4().hex))
        await back_up(database)
        await running
        after, _ = await actor.onboard(uuid4().hex)
        terminated = await start_and_terminate(ground, actor)
        for operation_id in (before, after):
            await reset_workflow(f"{HOST}:{ground.behind['temporal']}", operation_id)
        await quiet(ground, [before, after])
        await restore(database)
    finally:
        await database.close()
    await repaired(ground, terminated, seconds=120)
    await actor.switch(uuid4().hex)
    await quiet(ground, [told.operation_id for told in actor.history.acknowledged])
    assert violations(await gathered(ground, [actor.history])) == []
