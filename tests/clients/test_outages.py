"""Subscribers receive the end of operations although the worker is killed and the Temporal server restarts.

ADX_CHAOS=full follows 100 operations.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

import asyncpg

from tests.clients.cluster import Cluster
from tests.clients.crowd import run_clients
from tests.clients.scripted_viewer import run_concurrently
from tests.end_to_end.client import Client

FULL = os.environ.get("ADX_CHAOS") == "full"
OPERATIONS = 100 if FULL else 10


async def test_subscribers_receive_the_end_after_a_killed_worker_and_restarted_temporal(
    cluster: Cluster, tmp_path: Path
) -> None:
    watcher = Client(cluster.stack)  # a separate session, because each switch ends the session that started it
    await watcher.log_in("ada@example.com")
    assert watcher.token is not None
    ada_clients = [Client(cluster.stack) for _ in range(OPERATIONS)]
    await run_concurrently(partial(ada.log_in, "ada@example.com") for ada in ada_clients)
    globex = await watcher.tenant_id("Globex")
    database = await asyncpg.connect(cluster.environment["DATABASE_URL"])
    await database.execute("BEGIN")
    await database.execute("LOCK TABLE users_user IN EXCLUSIVE MODE")  # blocks the third step of each switch
    switches = await run_concurrently(partial(ada.start_switch, globex) for ada in ada_clients)
    async with run_clients(
        [operation for operation, _ in switches],
        websocket=cluster.stack.websocket,
        token=watcher.token,
        log=tmp_path / "crowd.log",
        seconds=400,
    ) as clients:
        await clients.wait_for_first_states()
        await cluster.run_in_thread(cluster.kill, "worker")
        await cluster.run_in_thread(cluster.stop, "temporal")
        await asyncio.sleep(2)
        await cluster.run_in_thread(cluster.start_temporal)
        await database.execute("ROLLBACK")
        await database.close()
        await cluster.run_in_thread(cluster.start_worker)
        await clients.wait_for_ends(300)
    for follower in clients.followers:
        follower.check_states(cluster.position)
