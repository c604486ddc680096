"""Rolling restarts under a crowd of npm graphql-ws clients with the library's own settings: nobody is lost.

ADX_CHAOS=full restarts both gateways ten times under 500 clients.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.clients.balancer import Balancer
from tests.clients.cluster import Cluster
from tests.clients.crowd import crowd
from tests.clients.scripted_viewer import Scene, scripted_operations

FULL = os.environ.get("ADX_CHAOS") == "full"
CLIENTS, OPERATIONS, ROUNDS = (500, 50, 10) if FULL else (50, 10, 2)


async def test_every_client_outlives_rolling_restarts_and_sees_the_end(cluster: Cluster, tmp_path: Path) -> None:
    async with (
        Balancer(cluster.gateway_ports) as balancer,
        scripted_operations(cluster, OPERATIONS) as scene,
        crowd(
            [scene.operations[client % OPERATIONS] for client in range(CLIENTS)],
            websocket=f"ws://{balancer.address}/graphql",
            token=scene.token,
            log=tmp_path / "crowd.log",
            seconds=560,
        ) as clients,
    ):
        await clients.all_open()
        moving = asyncio.create_task(keep_moving(scene))
        for restart in range(2 * ROUNDS):
            await cluster.beside(cluster.restart_gateway, restart % 2)
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
        await scene.end_all()
        await clients.all_over(90)
    for follower in clients.followers:
        follower.saw_it_through(cluster.position)
        # Some had moved to the other gateway before; but all were sent away by a close that they take for temporary.
        assert follower.opened > 1
        assert set(follower.closed) <= {1000, 1012, 1006}, follower.closed


async def keep_moving(scene: Scene) -> None:
    while True:
        await scene.move_all()
        await asyncio.sleep(0.5)
