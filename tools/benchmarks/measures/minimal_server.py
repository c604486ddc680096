"""Compare the minimal server with the same baselines: the lower bound for every gateway on hypercorn."""

from __future__ import annotations

from tools.benchmarks.environment import BenchmarkEnvironment
from tools.benchmarks.figures import Figure, median, percentile
from tools.benchmarks.measures.delivery import Round, measure_in_turns
from tools.benchmarks.measures.reads import VIEWER
from tools.benchmarks.measures.starts import START
from tools.benchmarks.processes import start_load_process

_ROUND = Round(operations=50, changes=150, per_second=30, rounds=4)


async def measure_minimal_server(environment: BenchmarkEnvironment) -> list[Figure]:
    with environment.minimal_server() as (_, port):
        return [await _events(environment, port), await _starts(environment, port), await _answers(environment, port)]


async def _events(environment: BenchmarkEnvironment, port: int) -> Figure:
    async with (
        start_load_process(environment, "sockets", port=port) as sockets,
        start_load_process(environment, "baseline-followers") as followers,
    ):
        delays = await measure_in_turns(environment, {"minimal": sockets, "raw": followers}, _ROUND)
    ours, raw = delays["minimal"], delays["raw"]
    detail = f"{median(ours):.2f} ms against {median(raw):.2f} ms; p99 {percentile(ours, 99) / percentile(raw, 99):.2f}"
    return _figure("event to frame at 50 operations, p50, over the raw long-poll's", median(ours) / median(raw), detail)


async def _starts(environment: BenchmarkEnvironment, port: int) -> Figure:
    ours: list[float] = []
    raw: list[float] = []
    async with (
        start_load_process(environment, "http", port=port, query=START) as http,
        start_load_process(environment, "baseline-starts") as client,
    ):
        for warm in (http, client):
            await warm.do(count=30, concurrency=1)
        for _ in range(8):
            ours += (await http.do(count=50, concurrency=1))["milliseconds"]
            raw += (await client.do(count=50, concurrency=1))["milliseconds"]
    detail = f"{median(ours):.2f} ms against {median(raw):.2f} ms"
    return _figure("a start, one in flight, over the raw client's p50", median(ours) / median(raw), detail)


async def _answers(environment: BenchmarkEnvironment, port: int) -> Figure:
    """Compare with graphql-yoga for a query that calls no service."""
    rates: dict[str, list[float]] = {"minimal": [], "yoga": []}
    with environment.peer() as (_, peer_port):
        async with (
            start_load_process(environment, "http", port=port, query=VIEWER) as minimal,
            start_load_process(environment, "http", port=peer_port, query="{ __typename }") as yoga,
        ):
            for warm in (minimal, yoga):
                await warm.do(concurrency=16, seconds=2)
            for _ in range(4):
                for name, client in (("minimal", minimal), ("yoga", yoga)):
                    done = await client.do(concurrency=16, seconds=2)
                    rates[name].append(len(done["milliseconds"]) / done["seconds"])
    ours, theirs = median(rates["minimal"]), median(rates["yoga"])
    detail = f"{ours:.0f} against {theirs:.0f} a second"
    return _figure("answers of constant bytes a second, over graphql-yoga's of a constant field", ours / theirs, detail)


def _figure(what: str, ratio: float, detail: str) -> Figure:
    return Figure(f"Hypercorn by itself: {what}", "", f"{ratio:.3g}", None, detail)
