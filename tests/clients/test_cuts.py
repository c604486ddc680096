"""Sockets cut at random, over and over, at two gateways: nothing is lost, nothing old is told again.

ADX_CHAOS=full follows 200 operations and cuts each client 20 times; ADX_SEED repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from uuid import uuid4

import pytest

from tests.clients.balancer import Balancer
from tests.clients.cluster import Cluster
from tests.clients.crowd import Crowd, crowd
from tests.clients.scripted_viewer import Scene, scripted_operations

FULL = os.environ.get("ADX_CHAOS") == "full"
OPERATIONS, CUTS = (200, 20) if FULL else (20, 5)
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid4().hex
"""Another each time, and the same in all processes that run the tests side by side."""
SEED = int(os.environ.get("ADX_SEED") or int(RUN[:8], 16))


@pytest.mark.parametrize("seed", [SEED])  # so that a failure tells it
async def test_each_state_is_newer_and_the_end_is_told_however_often_the_socket_is_cut(
    seed: int, cluster: Cluster, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    async with (
        Balancer(cluster.gateway_ports, seed=seed) as balancer,
        scripted_operations(cluster, OPERATIONS) as scene,
        crowd(
            scene.operations,
            websocket=f"ws://{balancer.address}/graphql",
            token=scene.token,
            log=tmp_path / "crowd.log",
            seconds=420,
            retry_milliseconds=300,
        ) as clients,
    ):
        await clients.all_open()
        moving = asyncio.create_task(keep_moving(scene, chance))
        await cut_at_random(clients, balancer, chance)
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
        ending = asyncio.create_task(scene.end_all())
        for _ in range(OPERATIONS):  # while they end, too
            balancer.cut(str(chance.randrange(OPERATIONS)))
            await asyncio.sleep(0.01)
        await ending
        await clients.all_over(60)
    for follower in clients.followers:
        follower.saw_it_through(cluster.position)
        assert len([code for code in follower.closed if code != 1000]) >= CUTS


async def keep_moving(scene: Scene, chance: random.Random) -> None:
    while True:
        await asyncio.gather(*(script.move() for script in chance.choices(scene.scripts, k=5)))
        await asyncio.sleep(0.05)  # else this process, which is their worker too, has time for nothing else


async def cut_at_random(clients: Crowd, balancer: Balancer, chance: random.Random) -> None:
    """Each client as often as it shall be, whatever it is doing at the moment: connecting, subscribing, listening."""
    left = {str(client): CUTS for client in range(OPERATIONS)}
    until = asyncio.get_running_loop().time() + 300
    while left:
        client = chance.choice(list(left))
        follower = clients.followers[int(client)]
        assert not follower.is_over, follower
        assert asyncio.get_running_loop().time() < until, [(clients.followers[int(one)], left[one]) for one in left]
        if balancer.cut(client):
            left[client] -= 1
            if not left[client]:
                del left[client]
        await asyncio.sleep(chance.uniform(0, 0.02))
