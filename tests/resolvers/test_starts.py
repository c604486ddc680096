"""Starting an operation and keeping an eye on it: what is known of it when, and what that costs Temporal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from time import time

from redis.asyncio import Redis
from temporalio.client import Client

from contracts.auth import Role, Session
from contracts.base import new_id, utc_now
from contracts.operations import Operation, OperationKind, StepStatus, operation_id
from contracts.secret_keys import SecretKeys
from infrastructure.fair_queue import Requester
from resolvers.cursors import Cursors
from resolvers.index import STARTING_SECONDS, MemoryIndex, OperationIndex, RedisIndex, Row
from resolvers.listing import Listing
from resolvers.progress import ProgressHub
from resolvers.states import States
from tests.gateway.temporal_calls import TemporalCalls
from tests.resolvers.scripted import scripts


class NoStates:
    def has_moved(self, operation_id: str) -> bool:
        return False

    """Temporal has none of them."""

    async def of(self, operation_ids: Iterable[str], requester: Requester) -> list[Operation | None]:
        return [None for _ in operation_ids]

    def unknown(self, operation_ids: Iterable[str]) -> int:
        return len(list(operation_ids))

    def keep(self, operation: Operation) -> None:
        pass


class NoScans:
    async def operations(self, user_id: str, tenant_id: str) -> list[Operation]:
        return []


def counted(client: Client) -> tuple[Client, TemporalCalls]:
    calls = TemporalCalls()
    config = client.config()
    config["interceptors"] = [*config["interceptors"], calls]
    return Client(**config), calls


def somebody() -> Session:
    return Session(
        id=new_id("ses"),
        user_id=new_id("usr"),
        tenant_id=new_id("ten"),
        role=Role.MEMBER,
        permissions=(),
        created_at=utc_now(),
        expires_at=utc_now(),
    )


async def listed_and_left(index: OperationIndex, started_at: float) -> list[Row] | None:
    """What the index holds of an operation that Temporal does not have, once a list has shown nothing of it."""
    me, id = somebody(), operation_id(b"", OperationKind.LOGIN, tenant_id="", user_id="", key=None)
    await index.fill(me.user_id, me.tenant_id, [])
    await index.add(me.user_id, me.tenant_id, Row(started_at, id))
    listing = Listing(NoStates(), NoScans(), index, Cursors(SecretKeys(b"secret")))
    assert (await listing.newest(me, 10)).states == ()
    return await index.rows(me.user_id, me.tenant_id)


async def test_one_that_is_still_being_started_is_not_shown_and_not_forgotten() -> None:
    assert len(await listed_and_left(MemoryIndex(), time()) or ()) == 1


async def test_one_whose_start_failed_is_forgotten_once_it_cannot_come_any_more() -> None:
    assert await listed_and_left(MemoryIndex(), time() - STARTING_SECONDS - 1) == []


async def test_the_shared_index_keeps_and_forgets_alike(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        index = RedisIndex(redis)
        assert len(await listed_and_left(index, time()) or ()) == 1
        assert await listed_and_left(index, time() - STARTING_SECONDS - 1) == []


async def test_who_only_keeps_a_watcher_at_work_has_nothing_described(temporal_client: Client) -> None:
    client, calls = counted(temporal_client)
    async with scripts(client) as starter, ProgressHub(client) as hub:
        id = await starter.start_labour()
        async with aclosing(hub.watch(id, quietly=True)) as states:
            async for state in states:
                if state.state.steps[0].status is StepStatus.RUNNING:
                    break
            await asyncio.sleep(1.5)
            assert calls.counts["describe"] == 0

            assert hub.known(id) is None, "history does not tell what this step does"
            await asyncio.sleep(1)
            known = hub.known(id)
            assert known is not None
            assert known.state.steps[0].fraction or known.state.steps[0].status is StepStatus.RETRYING


async def test_a_close_that_a_description_finds_is_passed_on_before_anybody_is_told(temporal_client: Client) -> None:
    seen: list[str] = []

    async def see(operation: Operation) -> None:
        seen.append(operation.id)

    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        script = await starter.start()
        states = States(temporal_client, hub, see)
        assert [state and state.is_closed for state in await states.of([script.id], Requester("a", "a"))] == [False]
        assert seen == []
        await script.end()
        await script.handle.result()
        for _ in range(3):
            assert [state and state.is_closed for state in await states.of([script.id], Requester("a", "a"))] == [True]
            assert seen == [script.id]


async def test_nothing_is_described_while_no_step_is_under_way(temporal_client: Client) -> None:
    client, calls = counted(temporal_client)
    async with scripts(client) as starter, ProgressHub(client) as hub:
        script = await starter.start()
        async with aclosing(hub.watch(script.id)) as states:
            await anext(states)
            await asyncio.sleep(1.5)
        assert calls.counts["describe"] == 0
        await script.end()
