"""Ten thousand different operations followed by two processes within Temporal's default quotas.

And two thousand followed by one process with raised quotas.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tools.benchmarks.environment import Ground
from tools.benchmarks.figures import Figure, at_most, percentile
from tools.benchmarks.processes import Side, side
from tools.benchmarks.workload import Handle, move, written_at

OPERATIONS = 10_000
_EVENTS = 1200
_EVENTS_PER_SECOND = 40.0
"""What Temporal's development server can do on two processors while it also serves what follows."""
_ENDS_PER_SECOND = 80.0
_RAISED = 2000


async def as_they_come(ground: Ground) -> list[Figure]:
    handles = await (await ground.mover()).start(OPERATIONS)
    half = len(handles) // 2
    with ground.another_gateway() as (_, port):
        async with side(ground, "sockets") as one, side(ground, "sockets", port=port) as other:
            sides = (one, other)
            connecting = await asyncio.gather(
                _connect(one, handles[:half]),
                _connect(other, handles[half:]),
            )
            polls = await asyncio.to_thread(ground.max_long_polls)
            first = await _taken(sides)
            moved = random.choices(handles, k=_EVENTS)
            await move(moved, a_second=_EVENTS_PER_SECOND)
            await asyncio.sleep(2)
            records = await _taken(sides)
            await move(handles, a_second=_ENDS_PER_SECOND, word="end")
            await asyncio.gather(*(each.do("await", ends=half, seconds=30) for each in sides))
            last = await _taken(sides)
    frames = [record for record in (*records, *last) if record.get("status") != "COMPLETED"]
    by_mode = {
        mode: await _delays(ground, [record for record in frames if record.get("mode") == mode])
        for mode in ("STREAM", "NOTIFIED", "INTERVAL")
    }
    delays = [delay for each in by_mode.values() for delay in each]
    received: dict[str, list[dict[str, Any]]] = {handle.id: [] for handle in handles}
    for record in (*first, *records, *last):
        received[record["operation"]].append(record)
    events = Counter(handle.id for handle in moved)
    whole = sum(_received_everything(each, events[operation]) for operation, each in received.items())
    false = [each[-1] for each in received.values() if each and _ended_falsely(each)]
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


async def _connect(crowd: Side, handles: Sequence[Handle]) -> float:
    answer = await crowd.do("connect", operations=[handle.id for handle in handles], at_once=32)
    return float(answer["seconds"])


async def _taken(sides: Sequence[Side]) -> list[dict[str, Any]]:
    return [record for records in await asyncio.gather(*(each.take() for each in sides)) for record in records]


async def _delays(ground: Ground, records: Sequence[dict[str, Any]]) -> list[float]:
    """The milliseconds between each event and its frame."""
    frames = [record for record in records if record["kind"] == "next"]
    moments = await written_at(await ground.temporal(), {record["operation"] for record in frames})
    return [
        (record["at"] - moments[record["operation"], record["revision"]]) / 1e6
        for record in frames
        if (record["operation"], record["revision"]) in moments
    ]


async def raised(ground: Ground) -> list[Figure]:
    handles = await (await ground.mover()).start(_RAISED)
    async with side(ground, "sockets") as crowd:
        await crowd.do("connect", operations=[handle.id for handle in handles])
        await asyncio.sleep(8)
        await crowd.take()
        await move(random.choices(handles, k=1500), a_second=_EVENTS_PER_SECOND)
        await asyncio.sleep(2)
        delays = await _delays(ground, await crowd.take())
    p99 = percentile(delays, 99)
    detail = f"p50 {percentile(delays, 50):.1f} ms, slowest {max(delays):.0f} ms, of {len(delays)} events"
    return [at_most("2,000 operations with frontend.namespaceCount raised: p99", p99, 50, unit=" ms", detail=detail)]


def _received_everything(received: list[dict[str, Any]], events: int) -> bool:
    """The first state, strictly newer ones, the end, and then complete."""
    states = [record for record in received if record["kind"] == "next"]
    revisions = [record["revision"] for record in states]
    newer = all(earlier < later for earlier, later in pairwise(revisions))
    is_whole = revisions[:1] == [0] and revisions[-1:] == [events + 1]
    return newer and is_whole and states[-1]["status"] == "COMPLETED" and received[-1]["kind"] == "complete"


def _ended_falsely(received: list[dict[str, Any]]) -> bool:
    over = received[-1]["kind"] != "next"
    return over and not any(record.get("status") == "COMPLETED" for record in received)
