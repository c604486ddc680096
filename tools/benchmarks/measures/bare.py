"""Hypercorn with nothing behind it, beside the same yardsticks: what no gateway on it can fall below."""

from __future__ import annotations

from tools.benchmarks.environment import Ground
from tools.benchmarks.figures import Figure, median, percentile
from tools.benchmarks.measures.delivery import Turn, in_turns
from tools.benchmarks.measures.reads import VIEWER
from tools.benchmarks.measures.starts import START
from tools.benchmarks.processes import side

_TURN = Turn(operations=50, moves=150, a_second=30, rounds=4)


async def bare(ground: Ground) -> list[Figure]:
    with ground.bare() as (_, port):
        return [await _events(ground, port), await _starts(ground, port), await _answers(ground, port)]


async def _events(ground: Ground, port: int) -> Figure:
    async with side(ground, "sockets", port=port) as sockets, side(ground, "raw-followers") as followers:
        delays = await in_turns(ground, {"bare": sockets, "raw": followers}, _TURN)
    mine, raw = delays["bare"], delays["raw"]
    detail = f"{median(mine):.2f} ms against {median(raw):.2f} ms; p99 {percentile(mine, 99) / percentile(raw, 99):.2f}"
    return _figure("event to frame at 50 operations, p50, over the raw long-poll's", median(mine) / median(raw), detail)


async def _starts(ground: Ground, port: int) -> Figure:
    ours: list[float] = []
    raw: list[float] = []
    async with side(ground, "posts", port=port, query=START) as posts, side(ground, "raw-starts") as client:
        for warm in (posts, client):
            await warm.do(count=30, flight=1)
        for _ in range(8):
            ours += (await posts.do(count=50, flight=1))["milliseconds"]
            raw += (await client.do(count=50, flight=1))["milliseconds"]
    detail = f"{median(ours):.2f} ms against {median(raw):.2f} ms"
    return _figure("a start, one in flight, over the raw client's p50", median(ours) / median(raw), detail)


async def _answers(ground: Ground, port: int) -> Figure:
    """Of yoga only what it makes of a query that asks nobody."""
    rates: dict[str, list[float]] = {"bare": [], "yoga": []}
    with ground.peer() as (_, peer_port):
        async with (
            side(ground, "posts", port=port, query=VIEWER) as bare_side,
            side(ground, "posts", port=peer_port, query="{ __typename }") as yoga,
        ):
            for warm in (bare_side, yoga):
                await warm.do(flight=16, seconds=2)
            for _ in range(4):
                for name, asked in (("bare", bare_side), ("yoga", yoga)):
                    done = await asked.do(flight=16, seconds=2)
                    rates[name].append(len(done["milliseconds"]) / done["seconds"])
    mine, theirs = median(rates["bare"]), median(rates["yoga"])
    detail = f"{mine:.0f} against {theirs:.0f} a second"
    return _figure("answers of constant bytes a second, over graphql-yoga's of a constant field", mine / theirs, detail)


def _figure(what: str, ratio: float, detail: str) -> Figure:
    return Figure(f"Hypercorn by itself: {what}", "", f"{ratio:.3g}", None, detail)
