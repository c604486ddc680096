"""Two thousand clients cut at once, who all come back at once."""

from __future__ import annotations

import asyncio
import time

from redis.asyncio import Redis

from tests.servers import HOST
from tools.benchmarks.environment import Ground
from tools.benchmarks.figures import Figure, at_most, median
from tools.benchmarks.processes import side
from tools.benchmarks.raw_protocol import HttpConnection
from tools.benchmarks.workload import move

CLIENTS, OPERATIONS = 2000, 200


async def storm(ground: Ground) -> list[Figure]:
    handles = await (await ground.mover()).start(OPERATIONS)
    async with side(ground, "sockets") as crowd:
        await crowd.do("connect", operations=[handles[client % OPERATIONS].id for client in range(CLIENTS)])
        await _forget_sessions(ground)
        probing = asyncio.create_task(_slowest_health(ground.port))
        back, _ = await asyncio.gather(crowd.do("cut", seconds=45), move(handles, a_second=100))
        await asyncio.sleep(1)
        probing.cancel()
        (slowest,) = await asyncio.gather(probing)
        await crowd.take()
        await move(handles, a_second=60, word="end")
        await crowd.do("await", count=CLIENTS, ends=CLIENTS, seconds=20)
        records = await crowd.take()
    completed = sum(record["kind"] == "next" and record["status"] == "COMPLETED" for record in records)
    took = sorted(back["seconds"])
    last = took[-1] if took and not back["late"] else float("inf")
    detail = (
        f"{len(took)} came back, the median after {median(took) if took else 0:.1f} s; {back['refused']} times refused"
    )
    return [
        at_most("2,000 clients cut at once: all resumed", last, 15, unit=" s", detail=detail),
        Figure("… told the end", f"{CLIENTS}", f"{completed}", completed == CLIENTS),
        at_most("… the slowest answer of /healthz meanwhile", slowest, 1, unit=" s"),
    ]


async def _forget_sessions(ground: Ground) -> None:
    """As if all clients had been quiet for half a minute: every session must be looked up again."""
    async with Redis.from_url(ground.environment["REDIS_URL"]) as redis:
        hot = [key async for key in redis.scan_iter("*session:*")]
        if hot:
            await redis.delete(*hot)


async def _slowest_health(port: int) -> float:
    """Seconds, connecting included, as a load balancer asks; until it is cancelled."""
    slowest = 0.0
    try:
        while True:
            begun = time.perf_counter()
            try:
                async with asyncio.timeout(10):
                    connection = await HttpConnection.open(HOST, port)
                    await connection.get("/healthz")
                    connection.close()
            except (OSError, TimeoutError):
                slowest = max(slowest, 10.0)
            slowest = max(slowest, time.perf_counter() - begun)
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return slowest
