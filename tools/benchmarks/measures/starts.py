"""Compare a mutation that starts an operation with the baseline's start of the same workflow."""

from __future__ import annotations

from tools.benchmarks.environment import BenchmarkEnvironment
from tools.benchmarks.figures import Figure, at_least, at_most, median, percentile
from tools.benchmarks.processes import cpu_seconds, start_load_process

START = """mutation ($id: ID!) {
  switchTenant(input: {tenantId: $id, waitSeconds: 0}) { operation { id status cursor } }
}"""


async def one_in_flight(environment: BenchmarkEnvironment) -> list[Figure]:
    ours: list[float] = []
    raw: list[float] = []
    async with (
        start_load_process(environment, "http", query=START, variables={"id": environment.viewer.other}) as mutation,
        start_load_process(environment, "baseline-starts") as client,
    ):
        await mutation.do(count=30, concurrency=1)
        await client.do(count=30, concurrency=1)
        spent = 0.0
        for _ in range(12):
            before = cpu_seconds(environment.gateway.pid)
            ours += (await mutation.do(count=50, concurrency=1))["milliseconds"]
            spent += cpu_seconds(environment.gateway.pid) - before
            raw += (await client.do(count=50, concurrency=1))["milliseconds"]
    detail = (
        f"p50 {median(ours):.2f} ms against {median(raw):.2f} ms, p99 {percentile(ours, 99):.1f} against "
        f"{percentile(raw, 99):.1f} ms; {spent * 1000 / len(ours):.2f} ms of the gateway's processor each"
    )
    return [
        at_most(
            "A start mutation, one in flight, over the raw client's p50",
            median(ours) / median(raw),
            1.5,
            detail=detail,
        )
    ]


async def sixteen_in_flight(environment: BenchmarkEnvironment) -> list[Figure]:
    ours: list[float] = []
    raw: list[float] = []
    async with (
        start_load_process(environment, "http", query=START, variables={"id": environment.viewer.other}) as mutation,
        start_load_process(environment, "baseline-starts") as client,
    ):
        await mutation.do(count=100, concurrency=16)
        await client.do(count=100, concurrency=16)
        for _ in range(8):
            done = await mutation.do(count=400, concurrency=16)
            ours.append(len(done["milliseconds"]) / done["seconds"])
            done = await client.do(count=400, concurrency=16)
            raw.append(len(done["milliseconds"]) / done["seconds"])
    detail = f"median of 8 bursts: {median(ours):.0f} a second against {median(raw):.0f}"
    what = "Start mutations a second, 16 in flight, over the raw client's"
    return [at_least(what, median(ours) / median(raw), 0.9, detail=detail)]
