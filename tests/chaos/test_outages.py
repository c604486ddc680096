"""Parts that are away for a moment: the short version, with each of them down.

``make chaos`` runs the long one, with every part down, paused, slow and reset, and a hundred rounds at random.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from resolvers.tokens import token_hash
from tools.chaos.client import ChaosClient
from tools.chaos.collect import collect_observations, wait_until_idle
from tools.chaos.environment import COMPONENTS, ChaosEnvironment
from tools.chaos.invariants import find_violations
from tools.chaos.outages import ALL_CONDITIONS, CLIENT_NETWORK, CONDITIONS, PROBES, measure_outages, run_random_faults
from tools.chaos.proxy import NORMAL
from tools.chaos.reliability import compare_with_table, read_table

SEED = 1


@pytest.fixture
async def clients(environment: ChaosEnvironment) -> AsyncIterator[list[ChaosClient]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(aclosing(ChaosClient(environment, account, index)))
            for index, account in enumerate(environment.accounts)
        ]


async def test_operations_answer_as_documented_while_a_part_is_down_and_all_is_well_soon_after(
    environment: ChaosEnvironment, clients: list[ChaosClient]
) -> None:
    down = {"down": CONDITIONS["down"]}
    parts = sorted(COMPONENTS, key="redis".__eq__)  # last, for afterwards its copies are not believed for a while
    found = await measure_outages(environment, clients[0], clients[1], tuple(parts), down, documented=read_table())
    assert list(found.faults()) == []
    assert compare_with_table(found, read_table()) == []


async def test_a_flushed_redis_signs_nobody_out_and_lets_no_one_in(
    environment: ChaosEnvironment, clients: list[ChaosClient]
) -> None:
    stays, leaves = clients[2:]
    for client in (stays, leaves):
        await client.sign_in()
        assert await client.current_tenant() == client.account.home
    await leaves.execute_with_retries("mutation { logout { ok } }")
    async with environment.redis_client() as redis:
        for _ in range(5):
            looking = asyncio.gather(*(stays.read_dashboard() for _ in range(10)))
            await redis.flushall()
            await looking
            assert await stays.current_tenant() == stays.account.home
            assert await leaves.current_tenant() is None


async def test_a_redis_restored_from_an_old_snapshot_signs_nobody_out_and_lets_no_one_in(
    environment: ChaosEnvironment, clients: list[ChaosClient]
) -> None:
    stays, leaves = clients[2:]
    for client in (stays, leaves):
        await client.sign_in()
        assert await client.current_tenant() == client.account.home  # so that there is a copy of each session
    async with environment.redis_client() as redis:
        copies = await _copies(redis, leaves)
        assert copies
        await redis.save()
    await leaves.execute_with_retries("mutation { logout { ok } }")
    assert await leaves.current_tenant() is None
    await asyncio.to_thread(environment.stop_redis)
    environment.start_redis()
    async with environment.redis_client() as redis:
        assert await _copies(redis, leaves) == copies  # as it was before the session ended
    assert await leaves.current_tenant() is None
    assert await stays.current_tenant() == stays.account.home


async def _copies(redis: Redis, client: ChaosClient) -> dict[str, str]:
    """What it holds of the actor's session."""
    assert client.token is not None
    keys = [key async for key in redis.scan_iter(f"*{token_hash(client.token)}*")]
    return {str(key): str(await redis.get(key)) for key in keys}


async def test_clients_behind_a_bad_network_hear_each_operation_to_its_end(
    environment: ChaosEnvironment, clients: list[ChaosClient]
) -> None:
    clients = clients[:2]
    for client in clients:
        client.url = environment.clients_url
        await client.sign_in()
    stop = asyncio.Event()

    async def work(client: ChaosClient) -> None:
        while not stop.is_set():
            await client.switch(uuid4().hex)
            await client.onboard(uuid4().hex)

    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(work(client))
        for conditions in ALL_CONDITIONS.values():
            await asyncio.sleep(0.4)
            environment.network.set_conditions(CLIENT_NETWORK, conditions)
            await asyncio.sleep(0.4)
            environment.network.set_conditions(CLIENT_NETWORK, NORMAL)
        stop.set()
    histories = [client.history for client in clients]
    followed = [following for history in histories for following in history.followed]
    await wait_until_idle(environment, [following.operation_id for following in followed])
    assert find_violations(await collect_observations(environment, histories)) == []
    assert sum(following.connections for following in followed) > len(followed), "nobody had to resume"


async def test_nothing_acknowledged_is_lost_while_parts_go_and_come(
    environment: ChaosEnvironment, clients: list[ChaosClient]
) -> None:
    watcher, *workers = clients
    stop = asyncio.Event()

    async def work(client: ChaosClient) -> None:
        await client.sign_in()
        while not stop.is_set():
            await client.switch(uuid4().hex)
            await client.onboard(uuid4().hex)

    async with asyncio.TaskGroup() as group:
        for client in workers:
            group.create_task(work(client))
        await run_random_faults(environment, watcher, COMPONENTS, 3, seed=SEED)
        stop.set()
    histories = [client.history for client in clients]
    await wait_until_idle(environment, [told.operation_id for history in histories for told in history.acknowledged])
    assert find_violations(await collect_observations(environment, histories)) == [], f"seed {SEED}"


def test_the_page_tells_of_every_operation() -> None:
    assert all(set(column) == set(PROBES) for column in read_table().values())
