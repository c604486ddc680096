"""Operations that are followed while gateways, workers and Redis are killed at random, in each mode of delivery."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from resolvers.following.watcher import Mode
from tests.clients.balancer import Balancer
from tests.clients.cluster import Cluster
from tests.clients.crowd import Crowd, crowd
from tests.end_to_end.client import Client
from tools.benchmarks.workload import Handle, Mover, move

SETTINGS: dict[Mode, dict[str, str]] = {
    Mode.STREAM: {},
    Mode.NOTIFIED: {"MAX_LONG_POLLS": "0"},
    Mode.INTERVAL: {"MAX_LONG_POLLS": "0", "REDIS_URL": ""},
}
"""Of a gateway that follows all operations in this mode. Without Redis it receives no notifications."""
_REDIS_AWAY_SECONDS = 3.0
"""Long enough for reads at an interval."""
_OPEN_SECONDS = 90.0
_END_SECONDS = 120.0
_MOVES_PER_SECOND = 20.0


@dataclass
class Followed:
    """``modes``: of the frames; ``kills``: how often each part was killed; ``faults``: what clients did not receive."""

    modes: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


async def follow_while_killing(
    cluster: Cluster, of_gateways: dict[str, str], *, operations: int, kills: int, seed: int
) -> Followed:
    """Restart the gateways with these settings, have each operation followed by a client, and kill the parts."""
    cluster.of_gateways = of_gateways
    for index in range(len(cluster.gateway_ports)):
        await cluster.beside(cluster.restart_gateway, index)
    async with Balancer(cluster.gateway_ports) as balancer, _moving_worker(cluster):
        token, handles = await _started(cluster, operations)
        async with crowd(
            [handle.id for handle in handles],
            websocket=f"ws://{balancer.address}/graphql",
            token=token,
            log=cluster.folder / "crowd.log",
            seconds=600,
            retry_milliseconds=2000,
        ) as clients:
            await clients.all_open(_OPEN_SECONDS)
            moving = asyncio.create_task(_keep_moving(handles))
            killed = await _kill_at_random(cluster, kills, random.Random(seed))
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)
            await move(handles, a_second=50, word="end")
            faults = await _faults(cluster, clients)
    modes = Counter(mode for follower in clients.followers for mode in follower.modes)
    return Followed(modes, killed, faults)


@asynccontextmanager
async def _moving_worker(cluster: Cluster) -> AsyncIterator[None]:
    await cluster.beside(cluster.start_moving)
    try:
        yield
    finally:
        await cluster.beside(cluster.kill, "moving")


async def _started(cluster: Cluster, count: int) -> tuple[str, list[Handle]]:
    """A token of Ada's, and operations of hers."""
    ada = Client(cluster.stack)
    await ada.log_in("ada@example.com")
    assert ada.token is not None
    viewer = (await ada.ask("{ viewer { user { id } tenantOverview { currentTenant { id } } } }"))["viewer"]
    tenant_id = viewer["tenantOverview"]["currentTenant"]["id"]
    mover = Mover(await cluster.temporal(), "moving", viewer["user"]["id"], tenant_id)
    return ada.token, await mover.start(count)


async def _keep_moving(handles: list[Handle]) -> None:
    while True:
        await move(random.sample(handles, len(handles)), a_second=_MOVES_PER_SECOND)


async def _kill_at_random(cluster: Cluster, kills: int, chance: random.Random) -> Counter[str]:
    starts: dict[str, Callable[[], None]] = {
        "gateway-0": lambda: cluster.start_gateway(0),
        "gateway-1": lambda: cluster.start_gateway(1),
        "moving": cluster.start_moving,
        "worker": cluster.start_worker,
    }
    order: list[str] = []
    while len(order) < kills:  # Redis while the operations move: after a worker's death they stand still for a while
        order += ["redis", *chance.sample(sorted(starts), len(starts))]
    starts["redis"] = cluster.start_redis
    for name in order[:kills]:
        await cluster.beside(cluster.kill, name)
        await asyncio.sleep(_REDIS_AWAY_SECONDS if name == "redis" else chance.uniform(0.1, 1.5))
        await cluster.beside(starts[name])
        await asyncio.sleep(chance.uniform(0.1, 1.5))
    return Counter(order[:kills])


async def _faults(cluster: Cluster, clients: Crowd) -> list[str]:
    faults = []
    try:
        await clients.all_over(_END_SECONDS)
    except AssertionError as error:
        faults.append(str(error))
    for follower in clients.followers:
        try:
            follower.saw_it_through(cluster.position)
        except AssertionError as error:
            faults.append(f"{follower.operation_id}: {error}")
    return faults
