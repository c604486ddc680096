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
from tools.chaos.client import Actor
from tools.chaos.collect import gathered, quiet
from tools.chaos.environment import PARTS, Ground
from tools.chaos.invariants import violations
from tools.chaos.outages import ALL_WEATHERS, CLIENTS, PROBES, WEATHERS, measured, rounds
from tools.chaos.proxy import FAIR
from tools.chaos.reliability import table, unlike

SEED = 1


@pytest.fixture
async def actors(ground: Ground) -> AsyncIterator[list[Actor]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(aclosing(Actor(ground, account, index)))
            for index, account in enumerate(ground.accounts)
        ]


async def test_operations_answer_as_documented_while_a_part_is_down_and_all_is_well_soon_after(
    ground: Ground, actors: list[Actor]
) -> None:
    down = {"down": WEATHERS["down"]}
    parts = sorted(PARTS, key="redis".__eq__)  # last, for afterwards its copies are not believed for a while
    found = await measured(ground, actors[0], actors[1], tuple(parts), down, documented=table())
    assert list(found.faults()) == []
    assert unlike(found, table()) == []


async def test_a_flushed_redis_signs_nobody_out_and_lets_no_one_in(ground: Ground, actors: list[Actor]) -> None:
    stays, leaves = actors[2:]
    for actor in (stays, leaves):
        await actor.sign_in()
        assert await actor.works_in() == actor.account.home
    await leaves.ask("mutation { logout { ok } }")
    async with ground.redis_client() as redis:
        for _ in range(5):
            looking = asyncio.gather(*(stays.look() for _ in range(10)))
            await redis.flushall()
            await looking
            assert await stays.works_in() == stays.account.home
            assert await leaves.works_in() is None


async def test_a_redis_restored_from_an_old_snapshot_signs_nobody_out_and_lets_no_one_in(
    ground: Ground, actors: list[Actor]
) -> None:
    stays, leaves = actors[2:]
    for actor in (stays, leaves):
        await actor.sign_in()
        assert await actor.works_in() == actor.account.home  # so that there is a copy of each session
    async with ground.redis_client() as redis:
        copies = await _copies(redis, leaves)
        assert copies
        await redis.save()
    await leaves.ask("mutation { logout { ok } }")
    assert await leaves.works_in() is None
    await asyncio.to_thread(ground.stop_redis)
    ground.start_redis()
    async with ground.redis_client() as redis:
        assert await _copies(redis, leaves) == copies  # as it was before the session ended
    assert await leaves.works_in() is None
    assert await stays.works_in() == stays.account.home


async def _copies(redis: Redis, actor: Actor) -> dict[str, str]:
    """What it holds of the actor's session."""
    assert actor.token is not None
    keys = [key async for key in redis.scan_iter(f"*{token_hash(actor.token)}*")]
    return {str(key): str(await redis.get(key)) for key in keys}


async def test_clients_behind_a_bad_network_hear_each_operation_to_its_end(ground: Ground, actors: list[Actor]) -> None:
    clients = actors[:2]
    for actor in clients:
        actor.url = ground.clients_url
        await actor.sign_in()
    stop = asyncio.Event()

    async def work(actor: Actor) -> None:
        while not stop.is_set():
            await actor.switch(uuid4().hex)
            await actor.onboard(uuid4().hex)

    async with asyncio.TaskGroup() as group:
        for actor in clients:
            group.create_task(work(actor))
        for weather in ALL_WEATHERS.values():
            await asyncio.sleep(0.4)
            ground.network.turn(CLIENTS, weather)
            await asyncio.sleep(0.4)
            ground.network.turn(CLIENTS, FAIR)
        stop.set()
    histories = [actor.history for actor in clients]
    followed = [following for history in histories for following in history.followed]
    await quiet(ground, [following.operation_id for following in followed])
    assert violations(await gathered(ground, histories)) == []
    assert sum(following.connections for following in followed) > len(followed), "nobody had to resume"


async def test_nothing_acknowledged_is_lost_while_parts_go_and_come(ground: Ground, actors: list[Actor]) -> None:
    watcher, *workers = actors
    stop = asyncio.Event()

    async def work(actor: Actor) -> None:
        await actor.sign_in()
        while not stop.is_set():
            await actor.switch(uuid4().hex)
            await actor.onboard(uuid4().hex)

    async with asyncio.TaskGroup() as group:
        for actor in workers:
            group.create_task(work(actor))
        await rounds(ground, watcher, PARTS, 3, seed=SEED)
        stop.set()
    histories = [actor.history for actor in actors]
    await quiet(ground, [told.operation_id for history in histories for told in history.acknowledged])
    assert violations(await gathered(ground, histories)) == [], f"seed {SEED}"


def test_the_page_tells_of_every_operation() -> None:
    assert all(set(column) == set(PROBES) for column in table().values())
