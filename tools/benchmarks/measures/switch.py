"""A tenant switch from its start to its final frame beside a workflow of six empty activities."""

from __future__ import annotations

from tools.benchmarks.environment import BenchmarkEnvironment
from tools.benchmarks.figures import Figure, at_most, median, percentile
from tools.benchmarks.processes import start_load_process


async def six_steps(environment: BenchmarkEnvironment) -> list[Figure]:
    ours: list[float] = []
    empty: list[float] = []
    with environment.switch_workers():
        viewer = await environment.sign_in()
        session = {"token": viewer.token, "tenant": viewer.tenant_id, "other": viewer.other}
        async with (
            start_load_process(environment, "switches", **session) as switches,
            start_load_process(environment, "empty-switches") as workflows,
        ):
            for warm in (switches, workflows):
                await warm.do(count=10)
            for _ in range(6):
                ours += (await switches.do(count=20))["milliseconds"]
                empty += (await workflows.do(count=20))["milliseconds"]
    detail = (
        f"p50 {median(ours):.1f} ms against {median(empty):.1f} ms, p99 {percentile(ours, 99):.0f} against "
        f"{percentile(empty, 99):.0f} ms"
    )
    what = "A tenant switch of six steps, start to final frame, over a workflow of six empty activities, p50"
    return [at_most(what, median(ours) / median(empty), 1.5, detail=detail)]
