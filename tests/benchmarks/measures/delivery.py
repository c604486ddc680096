"""From the event in a history to whoever follows: our frame, the raw client's long-poll, the peer's polling."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

from tests.benchmarks.figures import Figure, at_least, at_most, median, percentile
from tests.benchmarks.ground import Ground
from tests.benchmarks.moving import Handle, move, written_at
from tests.benchmarks.sides import side

_LINGER_SECONDS = 6.0
"""Until a gateway has let go of what nobody follows any more."""

_A_SECOND = {1: 25.0, 50: 50.0, 200: 50.0}
"""Moves, by how many operations are followed: slow enough that none waits for another."""


async def beside_the_raw_client(ground: Ground) -> list[Figure]:
    figures: list[Figure] = []
    for count in _A_SECOND:
        sides = {"ours": _Followed(ground, "sockets"), "raw": _Followed(ground, "raw-followers")}
        delays = await _in_turns(ground, sides, count, rounds=3, moves=150 if count == 1 else 250)
        ours, raw = delays["ours"], delays["raw"]
        for percent in (50, 99):
            mine, theirs = percentile(ours, percent), percentile(raw, percent)
            figures.append(
                at_most(
                    f"Event to frame at {count} operations, p{percent}, over the raw long-poll's",
                    mine / theirs,
                    1.25,
                    detail=f"{mine:.2f} ms against {theirs:.2f} ms, of {len(ours)} and {len(raw)} events",
                )
            )
    return figures


async def beside_the_peer(ground: Ground) -> list[Figure]:
    figures: list[Figure] = []
    with ground.peer() as (_, port):
        for count in (1, 50):
            sides = {"ours": _Followed(ground, "sockets"), "peer": _Followed(ground, "sockets", port=port)}
            delays = await _in_turns(ground, sides, count, rounds=2, moves=60 if count == 1 else 120, a_second=12)
            ours, peer = median(delays["ours"]), median(delays["peer"])
            figures.append(
                at_least(
                    f"Sooner than the peer that polls, at the median, {count} operations",
                    peer / ours,
                    10,
                    unit=" times",
                    detail=f"{ours:.2f} ms against {peer:.1f} ms",
                )
            )
    return figures


class _Followed:
    """One of the compared sides: a role, and where it goes."""

    def __init__(self, ground: Ground, role: str, **config: object) -> None:
        self.ground, self.role, self.config = ground, role, config

    async def delays(self, handles: Sequence[Handle], moves: int, a_second: float) -> list[float]:
        """Milliseconds from each event to its arrival."""
        async with side(self.ground, self.role, **self.config) as follower:
            await follower.do("connect", operations=[handle.id for handle in handles])
            await asyncio.sleep(0.5)
            await follower.take()
            chosen = [*handles, *random.choices(handles, k=moves - len(handles))] if moves > len(handles) else handles
            await move(chosen, a_second=a_second)
            await asyncio.sleep(1)
            records = await follower.take()
        arrivals = self._arrivals(records)
        moments = await written_at(await self.ground.temporal(), {operation for operation, _ in arrivals})
        assert arrivals, "Nothing arrived."
        return [(at - moments[key]) / 1e6 for key, at in arrivals.items() if key in moments]

    def _arrivals(self, records: list[object]) -> Mapping[tuple[str, int], int]:
        """When each revision of an operation was first known."""
        found: dict[tuple[str, int], int] = {}
        for record in records:
            match record:
                case [str(operation), int(revision), int(at)]:
                    found.setdefault((operation, revision), at)
                case {"kind": "next", "operation": str(operation), "revision": int(revision), "at": int(at)}:
                    found.setdefault((operation, revision), at)
        return found


async def _in_turns(
    ground: Ground,
    sides: Mapping[str, _Followed],
    count: int,
    *,
    rounds: int,
    moves: int,
    a_second: float | None = None,
) -> dict[str, list[float]]:
    """A/B/A/B: a process and operations of their own for each turn, and quiet between them."""
    mover = await ground.mover()
    delays: dict[str, list[float]] = {name: [] for name in sides}
    pace = a_second or _A_SECOND[count]
    for _ in range(rounds):
        for name, followed in sides.items():
            handles = await mover.start(count)
            delays[name] += await followed.delays(handles, moves, pace)
            if followed.role == "sockets":
                await asyncio.sleep(_LINGER_SECONDS)
    return delays
