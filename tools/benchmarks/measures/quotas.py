"""Follow ten thousand operations by two gateways with Temporal's default quotas, two thousand with raised quotas."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tools.benchmarks.environment import BenchmarkEnvironment
from tools.benchmarks.figures import Figure, at_most, percentile
from tools.benchmarks.processes import LoadProcess, start_load_process
from tools.benchmarks.workload import Handle, change_states, history_times

OPERATIONS = 10_000
_EVENTS = 1200
_EVENTS_PER_SECOND = 40.0
"""The rate that Temporal's development server sustains on two CPUs while it also serves the followers."""
_ENDS_PER_SECOND = 80.0
_LAST_END_TIMEOUT_SECONDS = 20
_RAISED_OPERATIONS = 2000


async def default_quotas(environment: BenchmarkEnvironment) -> list[Figure]:
    handles = await (await environment.workload_starter()).start(OPERATIONS)
    half = len(handles) // 2
    with environment.another_gateway() as (_, port):
        async with (
            start_load_process(environment, "sockets") as one,
            start_load_process(environment, "sockets", port=port) as other,
        ):
            processes = (one, other)
            connecting = await asyncio.gather(
                _connect(one, handles[:half]),
                _connect(other, handles[half:]),
            )
            polls = await asyncio.to_thread(environment.open_long_polls)
            first = await _take_records(processes)
            moved = random.choices(handles, k=_EVENTS)
            await change_states(moved, per_second=_EVENTS_PER_SECOND)
            await asyncio.sleep(2)
            records = await _take_records(processes)
            await change_states(handles, per_second=_ENDS_PER_SECOND, command="end")
            await _wait_for_ends(processes, half)
            last = await _take_records(processes)
    frames = [record for record in (*records, *last) if record.get("status") != "COMPLETED"]
    by_mode = {
        mode: await _delays(environment, [record for record in frames if record.get("mode") == mode])
        for mode in ("STREAM", "NOTIFIED", "INTERVAL")
    }
    delays = [delay for each in by_mode.values() for delay in each]
    received: dict[str, list[dict[str, Any]]] = {handle.id: [] for handle in handles}
    for record in (*first, *records, *last):
        received[record["operation"]].append(record)
    events = Counter(handle.id for handle in moved)
    whole = sum(_is_complete(each, events[operation]) for operation, each in received.items())
    false = [each[-1] for each in received.values() if each and _has_false_end(each)]
    modes = Counter(record["mode"] for record in (*first, *records, *last) if record["kind"] == "next")
    counts = ", ".join(f"{mode or 'not reported'}: {count}" for mode, count in modes.most_common())
    detail = f"{max(connecting):.0f} s to connect; {polls} long-polls open; frames by mode: {counts}"
    if false:
        detail += f"; a false end: {false[0]['why'] if 'why' in false[0] else false[0]}"
    p50, p99 = percentile(delays, 50), percentile(delays, 99)
    of = f"{len(delays)} frames of {_EVENTS} events, {_EVENTS_PER_SECOND:g} each second, slowest {max(delays):.0f} ms"
    each = ", ".join(
        f"{mode} {percentile(found, 50):.0f} and {percentile(found, 99):.0f} ms"
        for mode, found in by_mode.items()
        if found
    )
    return [
        Figure(
            "10,000 operations, two processes, default quotas: received the newest state and the end",
            f"{OPERATIONS}",
            f"{whole}",
            whole == OPERATIONS,
            detail,
        ),
        Figure("… false ends", "0", f"{len(false)}", not false),
        at_most("… event to frame, p50", p50, 50, unit=" ms", detail=of),
        at_most("… event to frame, p99", p99, 250, unit=" ms", detail=f"p50 and p99 by mode: {each}"),
        Figure("… mode received to the client", "yes", "no" if None in modes else "yes", None not in modes),
    ]


async def _connect(crowd: LoadProcess, handles: Sequence[Handle]) -> float:
    answer = await crowd.do("connect", operations=[handle.id for handle in handles], max_concurrent=32)
    return float(answer["seconds"])


async def _wait_for_ends(processes: Sequence[LoadProcess], half: int) -> None:
    """Wait until every end has arrived, or until none has arrived for some time."""
    before, count = -1, 0
    while before < count < OPERATIONS:
        results = await asyncio.gather(
            *(process.do("await", ends=half, seconds=_LAST_END_TIMEOUT_SECONDS) for process in processes)
        )
        before, count = count, sum(result["ends"] for result in results)


async def _take_records(processes: Sequence[LoadProcess]) -> list[dict[str, Any]]:
    return [
        record for records in await asyncio.gather(*(each.take_records() for each in processes)) for record in records
    ]


async def _delays(environment: BenchmarkEnvironment, records: Sequence[dict[str, Any]]) -> list[float]:
    """The milliseconds between each event and its frame."""
    frames = [record for record in records if record["kind"] == "next"]
    times = await history_times(await environment.temporal(), {record["operation"] for record in frames})
    return [
        (record["at"] - times[record["operation"], record["revision"]]) / 1e6
        for record in frames
        if (record["operation"], record["revision"]) in times
    ]


async def raised_quotas(environment: BenchmarkEnvironment) -> list[Figure]:
    handles = await (await environment.workload_starter()).start(_RAISED_OPERATIONS)
    async with start_load_process(environment, "sockets") as crowd:
        await crowd.do("connect", operations=[handle.id for handle in handles])
        await asyncio.sleep(8)
        await crowd.take_records()
        await change_states(random.choices(handles, k=1500), per_second=_EVENTS_PER_SECOND)
        await asyncio.sleep(2)
        delays = await _delays(environment, await crowd.take_records())
    p99 = percentile(delays, 99)
    detail = f"p50 {percentile(delays, 50):.1f} ms, slowest {max(delays):.0f} ms, of {len(delays)} events"
    return [at_most("2,000 operations with frontend.namespaceCount raised: p99", p99, 50, unit=" ms", detail=detail)]


def _is_complete(received: list[dict[str, Any]], events: int) -> bool:
    """Whether the messages are the first state, newer states in order, the final state, and the completion."""
    states = [record for record in received if record["kind"] == "next"]
    revisions = [record["revision"] for record in states]
    newer = all(earlier < later for earlier, later in pairwise(revisions))
    is_whole = revisions[:1] == [0] and revisions[-1:] == [events + 1]
    return newer and is_whole and states[-1]["status"] == "COMPLETED" and received[-1]["kind"] == "complete"


def _has_false_end(received: list[dict[str, Any]]) -> bool:
    over = received[-1]["kind"] != "next"
    return over and not any(record.get("status") == "COMPLETED" for record in received)
