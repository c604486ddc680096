"""One operation told to a crowd: a thousand sockets, and ten thousand."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

from tools.benchmarks.environment import Ground
from tools.benchmarks.figures import Figure, at_most, percentile
from tools.benchmarks.processes import cpu_seconds, memory_kib, side
from tools.benchmarks.workload import move, written_at


class Crowd(NamedTuple):
    """What one crowd cost and when its members heard: milliseconds after each event, event by event."""

    connected: int
    connecting_seconds: float
    delays: list[list[float]]
    cpu_milliseconds: float
    """Of the gateway, for one socket and event."""
    idle_cpu: float
    """Part of a processor that the crowd takes while nothing happens."""
    kib: float
    max_long_polls: int
    strangers: list[Any]
    """What was said to anybody that was no state."""


async def thousand(ground: Ground) -> list[Figure]:
    crowd = await _told(ground, 1000, events=20, apart_seconds=1.0)
    delays = [delay for event in crowd.delays for delay in event]
    p99 = percentile(delays, 99)
    detail = f"p50 {percentile(delays, 50):.0f} ms, slowest {max(delays):.0f} ms; {len(delays)} frames"
    return [
        at_most("One operation, 1,000 sockets: p99", p99, 100, unit=" ms", detail=detail),
        at_most("… processor time a socket and event", crowd.cpu_milliseconds, 0.06, unit=" ms"),
        at_most("… memory a socket", crowd.kib, 45, unit=" KiB"),
        at_most(
            "… long-polls",
            crowd.max_long_polls,
            1,
            detail=f"idle, all of them take {crowd.idle_cpu:.0%} of a processor",
        ),
        _nobody_lost(crowd, 1000, 20),
    ]


async def ten_thousand(ground: Ground) -> list[Figure]:
    crowd = await _told(ground, 10_000, events=5, apart_seconds=4.0, at_once=128)
    slowest = max(max(event) for event in crowd.delays)
    detail = (
        f"each event's last: {', '.join(f'{max(event):.0f}' for event in crowd.delays)} ms; connecting took "
        f"{crowd.connecting_seconds:.0f} s; idle they take {crowd.idle_cpu:.0%} of a processor"
    )
    cost = f"the next one costs {crowd.cpu_milliseconds:.3f} ms of processor an event and {crowd.kib:.0f} KiB"
    return [
        at_most("One operation, 10,000 subscribers of one process: all told", slowest, 1000, unit=" ms", detail=detail),
        _nobody_lost(crowd, 10_000, 5, cost),
    ]


def _nobody_lost(crowd: Crowd, sockets: int, events: int, detail: str = "") -> Figure:
    told = sum(map(len, crowd.delays))
    strange = f"; {len(crowd.strangers)} were told otherwise, as {crowd.strangers[0]}" if crowd.strangers else ""
    whole = crowd.connected == sockets and told == sockets * events and not crowd.strangers
    return Figure(
        f"… everybody told of each of {events} events",
        f"{sockets * events}",
        f"{told}",
        whole,
        f"{crowd.connected} connected{strange}{'; ' if detail else ''}{detail}",
    )


async def _told(ground: Ground, sockets: int, *, events: int, apart_seconds: float, at_once: int = 64) -> Crowd:
    pid = ground.gateway.pid
    (handle,) = await (await ground.mover()).start(1)
    async with side(ground, "sockets") as crowd:
        memory = memory_kib(pid)
        connecting = await crowd.do("connect", operations=[handle.id] * sockets, at_once=at_once)
        await asyncio.sleep(1)
        kib = (memory_kib(pid) - memory) / sockets
        first = await crowd.take()
        before, begun = cpu_seconds(pid), time.monotonic()
        await asyncio.sleep(6)
        idle = (cpu_seconds(pid) - before) / (time.monotonic() - begun)
        before, begun = cpu_seconds(pid), time.monotonic()
        max_long_polls = 0
        for event in range(events):
            await move([handle], a_second=1)
            await asyncio.sleep(apart_seconds)
            max_long_polls = (
                max(max_long_polls, await asyncio.to_thread(ground.max_long_polls)) if event < 3 else max_long_polls
            )
        await crowd.do("await", count=sockets * events, seconds=10)
        spent = cpu_seconds(pid) - before - idle * (time.monotonic() - begun)
        records = await crowd.take()
    moments = await written_at(await ground.temporal(), [handle.id])
    delays: dict[int, list[float]] = {}
    for record in records:
        if record["kind"] == "next" and (handle.id, record["revision"]) in moments:
            moment = moments[handle.id, record["revision"]]
            delays.setdefault(record["revision"], []).append((record["at"] - moment) / 1e6)
    return Crowd(
        connected=len({record["place"] for record in first if record["kind"] == "next"}),
        connecting_seconds=connecting["seconds"],
        delays=[delays[revision] for revision in sorted(delays)],
        cpu_milliseconds=spent * 1000 / (sockets * events),
        idle_cpu=idle,
        kib=kib,
        max_long_polls=max_long_polls,
        strangers=[record for record in [*first, *records] if record["kind"] != "next"],
    )
