"""From the event in a history to whoever follows: our frame, the raw client's long-poll, the peer's polling.

An event is known once a state is told that is as new: who polls skips states, and each of them was known as late as the
one that was told instead.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tools.benchmarks.environment import Ground
from tools.benchmarks.figures import Figure, at_least, at_most, median, percentile
from tools.benchmarks.processes import Side, side
from tools.benchmarks.workload import Handle, move, written_at

_LINGER_SECONDS = 6.0
"""Until a gateway has let go of what nobody follows any more."""


class Turn(NamedTuple):
    """How many operations are followed, how many moves they make in a turn and in a second, and how many turns."""

    operations: int
    moves: int
    a_second: float
    rounds: int


_BESIDE_RAW = (Turn(1, 90, 30, 4), Turn(50, 150, 30, 4), Turn(200, 300, 30, 3))
"""Slow enough that no event waits for another, and in many turns, for no machine stays the same for a minute."""
_BESIDE_PEER = (Turn(1, 60, 12, 2), Turn(50, 120, 12, 2))


async def beside_the_raw_client(ground: Ground) -> list[Figure]:
    figures: list[Figure] = []
    async with side(ground, "sockets") as sockets, side(ground, "raw-followers") as followers:
        for turn in _BESIDE_RAW:
            delays = await in_turns(ground, {"ours": sockets, "raw": followers}, turn)
            ours, raw = delays["ours"], delays["raw"]
            for percent in (50, 99):
                mine, theirs = percentile(ours, percent), percentile(raw, percent)
                figures.append(
                    at_most(
                        f"Event to frame at {turn.operations} operations, p{percent}, over the raw long-poll's",
                        mine / theirs,
                        1.25,
                        detail=f"{mine:.2f} ms against {theirs:.2f} ms, of {len(ours)} and {len(raw)} events",
                    )
                )
    return figures


async def beside_the_peer(ground: Ground) -> list[Figure]:
    figures: list[Figure] = []
    with ground.peer() as (_, port):
        async with side(ground, "sockets") as sockets, side(ground, "sockets", port=port) as polled:
            for turn in _BESIDE_PEER:
                delays = await in_turns(ground, {"ours": sockets, "peer": polled}, turn)
                ours, peer = median(delays["ours"]), median(delays["peer"])
                figures.append(
                    at_least(
                        f"Sooner than the peer that polls, at the median, {turn.operations} operations",
                        peer / ours,
                        10,
                        unit=" times",
                        detail=f"{ours:.2f} ms against {peer:.1f} ms",
                    )
                )
    return figures


async def in_turns(ground: Ground, sides: Mapping[str, Side], turn: Turn) -> dict[str, list[float]]:
    """A/B/A/B: milliseconds from each event to its arrival, by side; operations of their own for each turn."""
    mover = await ground.mover()
    temporal = await ground.temporal()
    delays: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turn.rounds):
        for name, follower in sides.items():
            handles = await mover.start(turn.operations)
            arrivals = await _followed(follower, handles, turn)
            moments = await written_at(temporal, {operation for operation, _ in arrivals})
            delays[name] += _delays(arrivals, moments)
            await asyncio.sleep(_LINGER_SECONDS if name == "ours" else 0.5)
    return delays


def _delays(arrivals: Mapping[tuple[str, int], int], moments: Mapping[tuple[str, int], int]) -> list[float]:
    """Milliseconds from each moment of a revision to the first arrival of one that is as new."""
    by_operation: dict[str, list[tuple[int, int]]] = {}
    for (operation, revision), at in arrivals.items():
        by_operation.setdefault(operation, []).append((revision, at))
    return [
        (min(known) - moment) / 1e6
        for (operation, revision), moment in moments.items()
        if (known := [at for told, at in by_operation.get(operation, ()) if told >= revision])
    ]


async def _followed(follower: Side, handles: Sequence[Handle], turn: Turn) -> Mapping[tuple[str, int], int]:
    """When each revision of an operation was first known, in nanoseconds."""
    await follower.do("connect", operations=[handle.id for handle in handles])
    await asyncio.sleep(1)
    await follower.take()
    more = random.choices(handles, k=turn.moves - len(handles))
    await move([*handles, *more], a_second=turn.a_second)
    await asyncio.sleep(2)
    found: dict[tuple[str, int], int] = {}
    for record in await follower.take():
        match record:
            case [str(operation), int(revision), int(at)]:
                found.setdefault((operation, revision), at)
            case {"kind": "next", "operation": str(operation), "revision": int(revision), "at": int(at)}:
                found.setdefault((operation, revision), at)
    await follower.do("close")
    return found
