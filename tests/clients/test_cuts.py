"""Sockets that are cut at random and reconnect to two gateways: no state is lost or repeated.

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
from tests.clients.crowd import ClientGroup, run_clients
from tests.clients.scripted_viewer import ScriptedOperations, scripted_operations

FULL = os.environ.get("ADX_CHAOS") == "full"
OPERATIONS, CUTS = (200, 20) if FULL else (20, 5)
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid4().hex
"""Random in each test run, but the same in all of its processes."""
SEED = int(os.environ.get("ADX_SEED") or int(RUN[:8], 16))


@pytest.mark.parametrize("seed", [SEED])  # the seed appears in the name of a failed test
async def test_receives_newer_states_and_the_end_although_sockets_are_cut(
    seed: int, cluster: Cluster, tmp_path: Path
) -> None:
    random_generator = random.Random(seed)
    async with (
        Balancer(cluster.gateway_ports, seed=seed) as balancer,
        scripted_operations(cluster, OPERATIONS) as operations,
        run_clients(
            operations.ids,
            websocket=f"ws://{balancer.address}/graphql",
            token=operations.token,
            log=tmp_path / "crowd.log",
            seconds=420,
            retry_milliseconds=300,
        ) as clients,
    ):
        await clients.wait_for_first_states()
        moving = asyncio.create_task(keep_moving(operations, random_generator))
        await cut_at_random(clients, balancer, random_generator)
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
        ending = asyncio.create_task(operations.end_all())
        for _ in range(OPERATIONS):  # clients are also cut while the operations end
            balancer.cut(str(random_generator.randrange(OPERATIONS)))
            await asyncio.sleep(0.01)
        await ending
        await clients.wait_for_ends(60)
    for follower in clients.followers:
        follower.check_states(cluster.position)
        assert len([code for code in follower.closed if code != 1000]) >= CUTS


async def keep_moving(operations: ScriptedOperations, random_generator: random.Random) -> None:
    """Move random operations to their next state until cancelled."""
    while True:
        await asyncio.gather(*(script.move() for script in random_generator.choices(operations.scripts, k=5)))
        await asyncio.sleep(0.05)  # leaves time for the worker, which runs in this process too


async def cut_at_random(clients: ClientGroup, balancer: Balancer, random_generator: random.Random) -> None:
    """Cut each client CUTS times, in any phase: while it connects, subscribes or listens."""
    remaining_cuts = {str(client): CUTS for client in range(OPERATIONS)}
    deadline = asyncio.get_running_loop().time() + 300
    while remaining_cuts:
        client = random_generator.choice(list(remaining_cuts))
        follower = clients.followers[int(client)]
        assert not follower.has_ended, follower
        assert asyncio.get_running_loop().time() < deadline, [
            (clients.followers[int(name)], remaining_cuts[name]) for name in remaining_cuts
        ]
        if balancer.cut(client):
            remaining_cuts[client] -= 1
            if not remaining_cuts[client]:
                del remaining_cuts[client]
        await asyncio.sleep(random_generator.uniform(0, 0.02))
