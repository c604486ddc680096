"""The product during short outages of each component. ``make chaos`` also pauses, delays and resets components."""

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


async def test_responses_during_an_outage_are_as_documented_and_recovery_is_fast(
    environment: ChaosEnvironment, clients: list[ChaosClient]
) -> None:
    down = {"down": CONDITIONS["down"]}
    parts = sorted(COMPONENTS, key="redis".__eq__)  # last, because gateways distrust its copies for a while afterwards
    found = await measure_outages(environment, clients[0], clients[1], tuple(parts), down, documented=read_table())
    assert list(found.faults()) == []
    assert compare_with_table(found, read_table()) == []


async def test_a_flushed_redis_neither_ends_nor_revives_a_session(
    environment: ChaosEnvironment, clients: list[ChaosClient]
) -> None:
    signed_in, signed_out = clients[2:]
    for client in (signed_in, signed_out):
        await client.sign_in()
        assert await client.current_tenant() == client.account.home
    await signed_out.execute_with_retries("mutation { logout { ok } }")
    async with environment.redis_client() as redis:
        for _ in range(5):
            reading = asyncio.gather(*(signed_in.read_dashboard() for _ in range(10)))
            await redis.flushall()
            await reading
            assert await signed_in.current_tenant() == signed_in.account.home
            assert await signed_out.current_tenant() is None


async def test_an_old_snapshot_of_redis_neither_ends_nor_revives_a_session(
    environment: ChaosEnvironment, clients: list[ChaosClient]
) -> None:
    signed_in, signed_out = clients[2:]
    for client in (signed_in, signed_out):
        await client.sign_in()
        assert await client.current_tenant() == client.account.home  # caches each session in Redis
    async with environment.redis_client() as redis:
        copies = await _copies(redis, signed_out)
        assert copies
        await redis.save()
    await signed_out.execute_with_retries("mutation { logout { ok } }")
    assert await signed_out.current_tenant() is None
    await asyncio.to_thread(environment.stop_redis)
    environment.start_redis()
    async with environment.redis_client() as redis:
        assert await _copies(redis, signed_out) == copies  # as it was before the session ended
    assert await signed_out.current_tenant() is None
    assert await signed_in.current_tenant() == signed_in.account.home


async def _copies(redis: Redis, client: ChaosClient) -> dict[str, str]:
    """Return the keys and values of the client's session in Redis."""
    assert client.token is not None
    keys = [key async for key in redis.scan_iter(f"*{token_hash(client.token)}*")]
    return {str(key): str(await redis.get(key)) for key in keys}


async def test_clients_behind_a_bad_network_receive_every_final_state(
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
    assert sum(following.connections for following in followed) > len(followed), "no subscription was resumed"


async def test_no_acknowledged_operation_is_lost_during_random_outages(
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


def test_the_table_of_the_page_has_every_probe() -> None:
    assert all(set(column) == set(PROBES) for column in read_table().values())
