"""graphql-ws clients with default settings follow operations to their end through rolling restarts of the gateways.

ADX_CHAOS=full restarts both gateways ten times under 500 clients.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.clients.balancer import Balancer
from tests.clients.cluster import Cluster
from tests.clients.crowd import run_clients
from tests.clients.scripted_viewer import ScriptedOperations, scripted_operations

FULL = os.environ.get("ADX_CHAOS") == "full"
CLIENTS, OPERATIONS, ROUNDS = (500, 50, 10) if FULL else (50, 10, 2)


async def test_every_client_follows_to_the_end_through_rolling_restarts(cluster: Cluster, tmp_path: Path) -> None:
    async with (
        Balancer(cluster.gateway_ports) as balancer,
        scripted_operations(cluster, OPERATIONS) as operations,
        run_clients(
            [operations.ids[client % OPERATIONS] for client in range(CLIENTS)],
            websocket=f"ws://{balancer.address}/graphql",
            token=operations.token,
            log=tmp_path / "crowd.log",
            seconds=560,
        ) as clients,
    ):
        await clients.wait_for_first_states()
        moving = asyncio.create_task(keep_moving(operations))
        for restart in range(2 * ROUNDS):
            await cluster.run_in_thread(cluster.restart_gateway, restart % 2)
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
        await operations.end_all()
        await clients.wait_for_ends(90)
    for follower in clients.followers:
        follower.check_states(cluster.position)
        # Each client was closed at least once, with a code after which the library reconnects.
        assert follower.opened > 1
        assert set(follower.closed) <= {1000, 1012, 1006}, follower.closed


async def keep_moving(operations: ScriptedOperations) -> None:
    """Move all operations to their next states until cancelled."""
    while True:
        await operations.move_all()
        await asyncio.sleep(0.5)
