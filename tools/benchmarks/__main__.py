"""``make bench``: measures everything in one run and writes docs/benchmarks.md; ARGS="--only NAME": one thing."""

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
from tools.benchmarks.environment import Ground, ground
from tools.benchmarks.figures import Figure
from tools.benchmarks.measures import bare, crowds, delivery, quotas, reads, starts, storm
from tools.benchmarks.report import machine, table, write

MOST_SECONDS = 18 * 60

RAISED = ("frontend.namespaceCount=20000",)


class Measure(NamedTuple):
    """``options`` are those of the Temporal server; measures beside each other with the same share one ground."""

    name: str
    run: Callable[[Ground], Awaitable[list[Figure]]]
    most_seconds: float
    options: Sequence[str] = ()


MEASURES = (
    Measure("viewer", reads.viewer, 60),
    Measure("dashboard", reads.dashboard, 60),
    Measure("delivery", delivery.beside_the_raw_client, 360),
    Measure("peer", delivery.beside_the_peer, 120),
    Measure("thousand", crowds.thousand, 90),
    Measure("ten-thousand", crowds.ten_thousand, 150),
    Measure("storm", storm.storm, 90),
    Measure("quotas", quotas.as_they_come, 480),
    Measure("raised", quotas.raised, 180, RAISED),
    # On a ground of their own: what they start is under way for ever after.
    Measure("start", starts.one_in_flight, 60),
    Measure("starts", starts.sixteen_in_flight, 90),
    Measure("bare", bare.bare, 150),
)


def main(only: Sequence[str]) -> int:
    """1 where a measurement failed; a target that is missed is a figure like any other."""
    chosen = [measure for measure in MEASURES if not only or measure.name in only]
    on = machine()
    begun = time.monotonic()
    figures: list[Figure] = []
    failed = False
    for options, measures in groupby(chosen, key=lambda measure: measure.options):
        with ground(options=options) as stage:
            for measure in measures:
                left = MOST_SECONDS - (time.monotonic() - begun)
                started = time.monotonic()
                try:
                    found = asyncio.run(_within(measure, stage, min(measure.most_seconds, left)))
                except Exception as error:  # noqa: BLE001 - what fails is told in its row, and the others go on
                    traceback.print_exc()
                    failed = True
                    found = [Figure(measure.name, "", "failed", False, f"{type(error).__name__} {error}"[:200])]
                figures += found
                _say(f"{measure.name} ({time.monotonic() - started:.0f} s)")
                for figure in found:
                    mark = {True: "yes", False: "NO", None: ""}[figure.ok]
                    _say(f"  {figure.what}: {figure.measured} ({figure.target}) {mark}; {figure.detail}")
    _say(f"\n{table(figures)}\n\non {on}")
    if not only:
        write(figures, on=on, seconds=time.monotonic() - begun)
    return int(failed)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _within(measure: Measure, stage: Ground, seconds: float) -> list[Figure]:
    async with asyncio.timeout(max(seconds, 1)):
        return await measure.run(stage)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=[measure.name for measure in MEASURES], default=[])
    exit_process(main(parser.parse_args(sys.argv[1:]).only))
