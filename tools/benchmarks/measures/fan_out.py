"""Measure the fan-out of one operation to a thousand and to ten thousand subscribers."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

from tools.benchmarks.environment import BenchmarkEnvironment
from tools.benchmarks.figures import Figure, at_most, percentile
from tools.benchmarks.processes import cpu_seconds, memory_kib, start_load_process
from tools.benchmarks.workload import change_states, history_times


class FanOutResult(NamedTuple):
    """The cost of the subscribers, and the delays of each event in milliseconds, event by event."""

    connected: int
    connecting_seconds: float
    delays: list[list[float]]
    cpu_milliseconds: float
    """CPU time of the gateway per socket and event."""
    idle_cpu: float
    """The fraction of a CPU that the subscribers need while nothing changes."""
    kib: float
    open_long_polls: int
    other_messages: list[Any]
    """Messages other than states."""


async def thousand(environment: BenchmarkEnvironment) -> list[Figure]:
    crowd = await _measure_fan_out(environment, 1000, events=20, interval_seconds=1.0)
    delays = [delay for event in crowd.delays for delay in event]
    p99 = percentile(delays, 99)
    detail = f"p50 {percentile(delays, 50):.0f} ms, slowest {max(delays):.0f} ms; {len(delays)} frames"
    return [
        at_most("One operation, 1,000 sockets: p99", p99, 100, unit=" ms", detail=detail),
        at_most("… processor time a socket and event", crowd.cpu_milliseconds, 0.06, unit=" ms"),
        at_most("… memory a socket", crowd.kib, 45, unit=" KiB"),
        at_most(
            "… long-polls",
            crowd.open_long_polls,
            1,
            detail=f"idle, all of them take {crowd.idle_cpu:.0%} of a processor",
        ),
        _completeness(crowd, 1000, 20),
    ]


async def ten_thousand(environment: BenchmarkEnvironment) -> list[Figure]:
    crowd = await _measure_fan_out(environment, 10_000, events=5, interval_seconds=4.0, max_concurrent=128)
    slowest = max(max(event) for event in crowd.delays)
    detail = (
        f"each event's last: {', '.join(f'{max(event):.0f}' for event in crowd.delays)} ms; connecting took "
        f"{crowd.connecting_seconds:.0f} s; idle they take {crowd.idle_cpu:.0%} of a processor"
    )
    cost = f"the next one costs {crowd.cpu_milliseconds:.3f} ms of processor an event and {crowd.kib:.0f} KiB"
    return [
        at_most(
            "One operation, 10,000 subscribers of one process: all received", slowest, 1000, unit=" ms", detail=detail
        ),
        _completeness(crowd, 10_000, 5, cost),
    ]


def _completeness(crowd: FanOutResult, sockets: int, events: int, detail: str = "") -> Figure:
    received = sum(map(len, crowd.delays))
    strange = (
        f"; {len(crowd.other_messages)} received something else, as {crowd.other_messages[0]}"
        if crowd.other_messages
        else ""
    )
    is_whole = crowd.connected == sockets and received == sockets * events and not crowd.other_messages
    return Figure(
        f"… each socket received each of {events} events",
        f"{sockets * events}",
        f"{received}",
        is_whole,
        f"{crowd.connected} connected{strange}{'; ' if detail else ''}{detail}",
    )


async def _measure_fan_out(
    environment: BenchmarkEnvironment, sockets: int, *, events: int, interval_seconds: float, max_concurrent: int = 64
) -> FanOutResult:
    pid = environment.gateway.pid
    (handle,) = await (await environment.workload_starter()).start(1)
    async with start_load_process(environment, "sockets") as crowd:
        memory = memory_kib(pid)
        connecting = await crowd.do("connect", operations=[handle.id] * sockets, max_concurrent=max_concurrent)
        await asyncio.sleep(1)
        kib = (memory_kib(pid) - memory) / sockets
        first = await crowd.take_records()
        before, started = cpu_seconds(pid), time.monotonic()
        await asyncio.sleep(6)
        idle = (cpu_seconds(pid) - before) / (time.monotonic() - started)
        before, started = cpu_seconds(pid), time.monotonic()
        open_long_polls = 0
        for event in range(events):
            await change_states([handle], per_second=1)
            await asyncio.sleep(interval_seconds)
            open_long_polls = (
                max(open_long_polls, await asyncio.to_thread(environment.open_long_polls))
                if event < 3
                else open_long_polls
            )
        await crowd.do("await", count=sockets * events, seconds=10)
        spent = cpu_seconds(pid) - before - idle * (time.monotonic() - started)
        records = await crowd.take_records()
    times = await history_times(await environment.temporal(), [handle.id])
    delays: dict[int, list[float]] = {}
    for record in records:
        if record["kind"] == "next" and (handle.id, record["revision"]) in times:
            moment = times[handle.id, record["revision"]]
            delays.setdefault(record["revision"], []).append((record["at"] - moment) / 1e6)
    return FanOutResult(
        connected=len({record["subscriber"] for record in first if record["kind"] == "next"}),
        connecting_seconds=connecting["seconds"],
        delays=[delays[revision] for revision in sorted(delays)],
        cpu_milliseconds=spent * 1000 / (sockets * events),
        idle_cpu=idle,
        kib=kib,
        open_long_polls=open_long_polls,
        other_messages=[record for record in [*first, *records] if record["kind"] != "next"],
    )
