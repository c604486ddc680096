"""Measure the recovery after two thousand clients lose their connections and reconnect at the same time."""

from __future__ import annotations

import asyncio
import time

from redis.asyncio import Redis

from tests.servers import HOST
from tools.benchmarks.environment import BenchmarkEnvironment
from tools.benchmarks.figures import Figure, at_most, median
from tools.benchmarks.processes import start_load_process
from tools.benchmarks.raw_protocol import HttpConnection
from tools.benchmarks.workload import change_states

CLIENTS, OPERATIONS = 2000, 200


async def reconnect_storm(environment: BenchmarkEnvironment) -> list[Figure]:
    handles = await (await environment.workload_starter()).start(OPERATIONS)
    async with start_load_process(environment, "sockets") as crowd:
        await crowd.do("connect", operations=[handles[client % OPERATIONS].id for client in range(CLIENTS)])
        await _delete_cached_sessions(environment)
        probing = asyncio.create_task(_slowest_health(environment.port))
        back, _ = await asyncio.gather(crowd.do("cut", seconds=45), change_states(handles, per_second=100))
        await asyncio.sleep(1)
        probing.cancel()
        (slowest,) = await asyncio.gather(probing)
        await crowd.take_records()
        await change_states(handles, per_second=60, command="end")
        await crowd.do("await", count=CLIENTS, ends=CLIENTS, seconds=20)
        records = await crowd.take_records()
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


async def _delete_cached_sessions(environment: BenchmarkEnvironment) -> None:
    """Delete all cached sessions, so that every session must be looked up again."""
    async with Redis.from_url(environment.variables["REDIS_URL"]) as redis:
        hot = [key async for key in redis.scan_iter("*session:*")]
        if hot:
            await redis.delete(*hot)


async def _slowest_health(port: int) -> float:
    """Request /healthz over new connections until cancelled; return the longest time in seconds."""
    slowest = 0.0
    try:
        while True:
            started = time.perf_counter()
            try:
                async with asyncio.timeout(10):
                    connection = await HttpConnection.open(HOST, port)
                    await connection.get("/healthz")
                    connection.close()
            except (OSError, TimeoutError):
                slowest = max(slowest, 10.0)
            slowest = max(slowest, time.perf_counter() - started)
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return slowest
