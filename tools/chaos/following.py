"""Follow operations in each delivery mode while gateways, workers and Redis are killed at random."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from resolvers.following.watcher import DeliveryMode
from tests.clients.balancer import Balancer
from tests.clients.cluster import Cluster
from tests.clients.crowd import ClientGroup, run_clients
from tests.end_to_end.client import Client
from tools.benchmarks.workload import Handle, WorkloadStarter, change_states

SETTINGS: dict[DeliveryMode, dict[str, str]] = {
    DeliveryMode.STREAM: {},
    DeliveryMode.NOTIFIED: {"MAX_LONG_POLLS": "0"},
    DeliveryMode.INTERVAL: {"MAX_LONG_POLLS": "0", "REDIS_URL": ""},
}
"""The settings with which a gateway follows every operation in the mode; without Redis it receives no notifications."""
_REDIS_DOWN_SECONDS = 3.0
"""Long enough that a gateway falls back to reads at an interval."""
_OPEN_TIMEOUT_SECONDS = 90.0
_END_TIMEOUT_SECONDS = 120.0
_CHANGES_PER_SECOND = 20.0


@dataclass
class FollowResults:
    """The number of messages by delivery mode, the number of kills by component, and the faults that clients found."""

    modes: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


async def follow_while_killing(
    cluster: Cluster, of_gateways: dict[str, str], *, operations: int, kills: int, seed: int
) -> FollowResults:
    """Restart the gateways with the settings, follow each operation with a client, and kill components meanwhile."""
    cluster.gateway_environment = of_gateways
    for index in range(len(cluster.gateway_ports)):
        await cluster.run_in_thread(cluster.restart_gateway, index)
    async with Balancer(cluster.gateway_ports) as balancer, _run_workload(cluster):
        token, handles = await _start_operations(cluster, operations)
        async with run_clients(
            [handle.id for handle in handles],
            websocket=f"ws://{balancer.address}/graphql",
            token=token,
            log=cluster.folder / "crowd.log",
            seconds=600,
            retry_milliseconds=2000,
        ) as clients:
            await clients.wait_for_first_states(_OPEN_TIMEOUT_SECONDS)
            moving = asyncio.create_task(_change_states(handles))
            killed = await _kill_at_random(cluster, kills, random.Random(seed))
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)
            await change_states(handles, per_second=50, command="end")
            faults = await _faults(cluster, clients)
    modes = Counter(mode for follower in clients.followers for mode in follower.modes)
    return FollowResults(modes, killed, faults)


@asynccontextmanager
async def _run_workload(cluster: Cluster) -> AsyncIterator[None]:
    await cluster.run_in_thread(cluster.start_workload_worker)
    try:
        yield
    finally:
        await cluster.run_in_thread(cluster.kill, "moving")


async def _start_operations(cluster: Cluster, count: int) -> tuple[str, list[Handle]]:
    """Sign in and start operations; return the session token and the handles of the operations."""
    ada = Client(cluster.stack)
    await ada.log_in("ada@example.com")
    assert ada.token is not None
    viewer = (await ada.execute("{ viewer { user { id } tenantOverview { currentTenant { id } } } }"))["viewer"]
    tenant_id = viewer["tenantOverview"]["currentTenant"]["id"]
    workload_starter = WorkloadStarter(await cluster.temporal(), "moving", viewer["user"]["id"], tenant_id)
    return ada.token, await workload_starter.start(count)


async def _change_states(handles: list[Handle]) -> None:
    while True:
        await change_states(random.sample(handles, len(handles)), per_second=_CHANGES_PER_SECOND)


async def _kill_at_random(cluster: Cluster, kills: int, rng: random.Random) -> Counter[str]:
    starts: dict[str, Callable[[], None]] = {
        "gateway-0": lambda: cluster.start_gateway(0),
        "gateway-1": lambda: cluster.start_gateway(1),
        "moving": cluster.start_workload_worker,
        "worker": cluster.start_worker,
    }
    command: list[str] = []
    while len(command) < kills:  # Redis first: after the kill of a worker the operations do not change for a while
        command += ["redis", *rng.sample(sorted(starts), len(starts))]
    starts["redis"] = cluster.start_redis
    for name in command[:kills]:
        await cluster.run_in_thread(cluster.kill, name)
        await asyncio.sleep(_REDIS_DOWN_SECONDS if name == "redis" else rng.uniform(0.1, 1.5))
        await cluster.run_in_thread(starts[name])
        await asyncio.sleep(rng.uniform(0.1, 1.5))
    return Counter(command[:kills])


async def _faults(cluster: Cluster, clients: ClientGroup) -> list[str]:
    faults = []
    try:
        await clients.wait_for_ends(_END_TIMEOUT_SECONDS)
    except AssertionError as error:
        faults.append(str(error))
    for follower in clients.followers:
        try:
            follower.check_states(cluster.position)
        except AssertionError as error:
            faults.append(f"{follower.operation_id}: {error}")
    return faults
