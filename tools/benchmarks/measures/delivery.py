"""Measure the delay from an event in a history to its arrival at a client, against the baseline and the peer.

An event has arrived when a state with the same or a later revision arrives: a client that polls may skip states.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tools.benchmarks.environment import BenchmarkEnvironment
from tools.benchmarks.figures import Figure, at_least, at_most, median, percentile
from tools.benchmarks.processes import LoadProcess, start_load_process
from tools.benchmarks.workload import Handle, change_states, history_times

_LINGER_SECONDS = 6.0
"""The time in which a gateway closes the watchers without subscribers."""


class Round(NamedTuple):
    """The numbers of followed operations, of changes per round and per second, and of rounds."""

    operations: int
    changes: int
    per_second: float
    rounds: int


_BASELINE_ROUNDS = (Round(1, 90, 30, 4), Round(50, 150, 30, 4), Round(200, 300, 30, 3))
"""Slow enough that no event waits for another; many rounds, because the speed of the machine varies."""
_PEER_ROUNDS = (Round(1, 60, 12, 2), Round(50, 120, 12, 2))


async def compare_with_baseline(environment: BenchmarkEnvironment) -> list[Figure]:
    figures: list[Figure] = []
    async with (
        start_load_process(environment, "sockets") as sockets,
        start_load_process(environment, "baseline-followers") as followers,
    ):
        for round_ in _BASELINE_ROUNDS:
            delays = await measure_in_turns(environment, {"ours": sockets, "raw": followers}, round_)
            ours, raw = delays["ours"], delays["raw"]
            for percent in (50, 99):
                mine, theirs = percentile(ours, percent), percentile(raw, percent)
                figures.append(
                    at_most(
                        f"Event to frame at {round_.operations} operations, p{percent}, over the raw long-poll's",
                        mine / theirs,
                        1.25,
                        detail=f"{mine:.2f} ms against {theirs:.2f} ms, of {len(ours)} and {len(raw)} events",
                    )
                )
    return figures


async def compare_with_peer(environment: BenchmarkEnvironment) -> list[Figure]:
    figures: list[Figure] = []
    with environment.peer() as (_, port):
        async with (
            start_load_process(environment, "sockets") as sockets,
            start_load_process(environment, "sockets", port=port) as peer_sockets,
        ):
            for round_ in _PEER_ROUNDS:
                delays = await measure_in_turns(environment, {"ours": sockets, "peer": peer_sockets}, round_)
                ours, peer = median(delays["ours"]), median(delays["peer"])
                figures.append(
                    at_least(
                        f"Sooner than the peer that polls, at the median, {round_.operations} operations",
                        peer / ours,
                        10,
                        unit=" times",
                        detail=f"{ours:.2f} ms against {peer:.1f} ms",
                    )
                )
    return figures


async def measure_in_turns(
    environment: BenchmarkEnvironment, processes: Mapping[str, LoadProcess], round_: Round
) -> dict[str, list[float]]:
    """Measure the processes alternately, each with new operations; return the delays of events in milliseconds."""
    workload_starter = await environment.workload_starter()
    temporal = await environment.temporal()
    delays: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(round_.rounds):
        for name, follower in processes.items():
            handles = await workload_starter.start(round_.operations)
            arrivals = await _follow(follower, handles, round_)
            times = await history_times(temporal, {operation for operation, _ in arrivals})
            delays[name] += _delays(arrivals, times)
            await asyncio.sleep(_LINGER_SECONDS if name == "ours" else 0.5)
    return delays


def _delays(arrivals: Mapping[tuple[str, int], int], times: Mapping[tuple[str, int], int]) -> list[float]:
    """Return the milliseconds from each revision to the first arrival of the same or a later revision."""
    by_operation: dict[str, list[tuple[int, int]]] = {}
    for (operation, revision), at in arrivals.items():
        by_operation.setdefault(operation, []).append((revision, at))
    return [
        (min(known) - moment) / 1e6
        for (operation, revision), moment in times.items()
        if (known := [at for told, at in by_operation.get(operation, ()) if told >= revision])
    ]


async def _follow(follower: LoadProcess, handles: Sequence[Handle], round_: Round) -> Mapping[tuple[str, int], int]:
    """Return when each revision of an operation first arrived, in nanoseconds."""
    await follower.do("connect", operations=[handle.id for handle in handles])
    await asyncio.sleep(1)
    await follower.take_records()
    more = random.choices(handles, k=round_.changes - len(handles))
    await change_states([*handles, *more], per_second=round_.per_second)
    await asyncio.sleep(2)
    found: dict[tuple[str, int], int] = {}
    for record in await follower.take_records():
        match record:
            case [str(operation), int(revision), int(at)]:
                found.setdefault((operation, revision), at)
            case {"kind": "next", "operation": str(operation), "revision": int(revision), "at": int(at)}:
                found.setdefault((operation, revision), at)
    await follower.do("close")
    return found
