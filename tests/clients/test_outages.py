"""The worker killed and the Temporal server restarted under operations that are watched: every subscriber sees the end.

ADX_CHAOS=full watches 100 operations.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

import asyncpg

from tests.clients.cluster import Cluster
from tests.clients.crowd import crowd
from tests.clients.scripted_viewer import at_once
from tests.end_to_end.client import Client

FULL = os.environ.get("ADX_CHAOS") == "full"
OPERATIONS = 100 if FULL else 10


async def test_every_subscriber_sees_the_end_though_the_worker_is_killed_and_temporal_restarts(
    cluster: Cluster, tmp_path: Path
) -> None:
    watcher = Client(cluster.stack)  # a session of its own, for each switch ends the session that asked for it
    await watcher.log_in("ada@example.com")
    assert watcher.token is not None
    adas = [Client(cluster.stack) for _ in range(OPERATIONS)]
    await at_once(partial(ada.log_in, "ada@example.com") for ada in adas)
    globex = await watcher.tenant("Globex")
    database = await asyncpg.connect(cluster.environment["DATABASE_URL"])
    await database.execute("BEGIN")
    await database.execute("LOCK TABLE users_user IN EXCLUSIVE MODE")  # the third step of each stands still
    switches = await at_once(partial(ada.start_switch, globex) for ada in adas)
    async with crowd(
        [operation for operation, _ in switches],
        websocket=cluster.stack.websocket,
        token=watcher.token,
        log=tmp_path / "crowd.log",
        seconds=400,
    ) as clients:
        await clients.all_open()
        await cluster.beside(cluster.kill, "worker")
        await cluster.beside(cluster.stop, "temporal")
        await asyncio.sleep(2)
        await cluster.beside(cluster.start_temporal)
        await database.execute("ROLLBACK")
        await database.close()
        await cluster.beside(cluster.start_worker)
        await clients.all_over(300)
    for follower in clients.followers:
        follower.saw_it_through(cluster.position)
