"""Two thousand different operations watched by one process: within the quotas as they come, and with them raised."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from itertools import pairwise
from typing import Any

from tests.benchmarks.figures import Figure, at_most, percentile
from tests.benchmarks.ground import Ground
from tests.benchmarks.moving import move, written_at
from tests.benchmarks.sides import side

OPERATIONS = 2000
_A_SECOND = 80.0


async def as_they_come(ground: Ground) -> list[Figure]:
    handles = await (await ground.mover()).start(OPERATIONS)
    async with side(ground, "sockets") as crowd:
        connecting = await crowd.do("connect", operations=[handle.id for handle in handles])
        polls = await asyncio.to_thread(ground.long_polls)
        await move(handles, a_second=_A_SECOND)
        await asyncio.sleep(2)
        await move(handles, a_second=_A_SECOND, word="end")
        await crowd.do("await", ends=OPERATIONS, seconds=40)
        records = await crowd.take()
    places: dict[int, list[dict[str, Any]]] = {place: [] for place in range(OPERATIONS)}
    for record in records:
        places[record["place"]].append(record)
    whole = sum(_saw_it_all(each) for each in places.values())
    false = [each[-1] for each in places.values() if each and _ended_falsely(each)]
    modes = Counter(record["mode"] for record in records if record["kind"] == "next")
    told = ", ".join(f"{mode or 'not told'}: {count}" for mode, count in modes.most_common())
    detail = f"{connecting['seconds']:.0f} s to connect; {polls} long-polls open; frames by mode: {told}"
    if false:
        detail += f"; a false end: {false[0]['why'] if 'why' in false[0] else false[0]}"
    return [
        Figure(
            "2,000 operations, quotas as they come: saw every state and the end",
            "2000",
            f"{whole}",
            whole == 2000,
            detail,
        ),
        Figure("… false ends", "0", f"{len(false)}", not false),
        Figure("… mode told to the client", "yes", "no" if None in modes else "yes", None not in modes),
    ]


async def raised(ground: Ground) -> list[Figure]:
    handles = await (await ground.mover()).start(OPERATIONS)
    async with side(ground, "sockets") as crowd:
        await crowd.do("connect", operations=[handle.id for handle in handles])
        await asyncio.sleep(8)
        await crowd.take()
        await move(random.choices(handles, k=1500), a_second=40)
        await asyncio.sleep(2)
        records = [record for record in await crowd.take() if record["kind"] == "next"]
    moments = await written_at(await ground.temporal(), {record["operation"] for record in records})
    delays = [
        (record["at"] - moments[record["operation"], record["revision"]]) / 1e6
        for record in records
        if (record["operation"], record["revision"]) in moments
    ]
    p99 = percentile(delays, 99)
    detail = f"p50 {percentile(delays, 50):.1f} ms, slowest {max(delays):.0f} ms, of {len(delays)} events"
    return [at_most("2,000 operations with frontend.namespaceCount raised: p99", p99, 50, unit=" ms", detail=detail)]


def _saw_it_all(told: list[dict[str, Any]]) -> bool:
    """The first state, the moved one and the end, each newer than the one before, and then complete."""
    states = [record for record in told if record["kind"] == "next"]
    revisions = [record["revision"] for record in states]
    newer = all(earlier < later for earlier, later in pairwise(revisions))
    return newer and revisions == [0, 1, 2] and states[-1]["status"] == "COMPLETED" and told[-1]["kind"] == "complete"


def _ended_falsely(told: list[dict[str, Any]]) -> bool:
    over = told[-1]["kind"] != "next"
    return over and not any(record.get("status") == "COMPLETED" for record in told)
