"""``make bench``: run all benchmarks and write docs/benchmarks.md; ARGS="--only NAME" runs one benchmark."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from infrastructure.temporal.connection import exit_process
from tools.benchmarks.environment import BenchmarkEnvironment, start_benchmark_environment
from tools.benchmarks.figures import Figure
from tools.benchmarks.measures import delivery, fan_out, minimal_server, quotas, reads, reconnect_storm, starts, switch
from tools.benchmarks.report import machine, table, write

MAX_SECONDS = 18 * 60

RAISED_QUOTAS = ("frontend.namespaceCount=20000",)


class Measure(NamedTuple):
    """A benchmark. Consecutive benchmarks with the same options of the Temporal server share one environment."""

    name: str
    run: Callable[[BenchmarkEnvironment], Awaitable[list[Figure]]]
    max_seconds: float
    options: Sequence[str] = ()


MEASURES = (
    Measure("viewer", reads.viewer, 60),
    Measure("dashboard", reads.dashboard, 60),
    Measure("delivery", delivery.compare_with_baseline, 360),
    Measure("peer", delivery.compare_with_peer, 120),
    Measure("thousand", fan_out.thousand, 90),
    Measure("ten-thousand", fan_out.ten_thousand, 150),
    Measure("reconnect-storm", reconnect_storm.reconnect_storm, 90),
    Measure("quotas", quotas.default_quotas, 480),
    Measure("raised-quotas", quotas.raised_quotas, 180, RAISED_QUOTAS),
    Measure("switch", switch.six_steps, 60),
    # Last, because the operations that they start never end.
    Measure("start", starts.one_in_flight, 60),
    Measure("starts", starts.sixteen_in_flight, 90),
    Measure("minimal-server", minimal_server.measure_minimal_server, 150),
)


def main(only: Sequence[str]) -> int:
    """Return 1 if a benchmark failed; a missed target is not a failure."""
    chosen = [measure for measure in MEASURES if not only or measure.name in only]
    machine_description = machine()
    run_started = time.monotonic()
    figures: list[Figure] = []
    failed = False
    for options, measures in groupby(chosen, key=lambda measure: measure.options):
        with start_benchmark_environment(options=options) as environment:
            for measure in measures:
                left = MAX_SECONDS - (time.monotonic() - run_started)
                started = time.monotonic()
                try:
                    found = asyncio.run(_with_timeout(measure, environment, min(measure.max_seconds, left)))
                except Exception as error:  # noqa: BLE001 - the failure is a row of the table, and the next benchmark runs
                    traceback.print_exc()
                    failed = True
                    found = [Figure(measure.name, "", "failed", False, f"{type(error).__name__} {error}"[:200])]
                figures += found
                _print(f"{measure.name} ({time.monotonic() - started:.0f} s)")
                for figure in found:
                    mark = {True: "yes", False: "NO", None: ""}[figure.ok]
                    _print(f"  {figure.what}: {figure.measured} ({figure.target}) {mark}; {figure.detail}")
    _print(f"\n{table(figures)}\n\non {machine_description}")
    if not only:
        write(figures, on=machine_description, seconds=time.monotonic() - run_started)
    return int(failed)


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _with_timeout(measure: Measure, environment: BenchmarkEnvironment, seconds: float) -> list[Figure]:
    async with asyncio.timeout(max(seconds, 1)):
        return await measure.run(environment)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=[measure.name for measure in MEASURES], default=[])
    exit_process(main(parser.parse_args(sys.argv[1:]).only))
