"""``make chaos``: run all chaos experiments within twenty minutes and write the results into docs/reliability.md."""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait

from tools.chaos.long_run import EXPERIMENTS, SETTLE_TIMEOUT_SECONDS
from tools.chaos.reliability import write_section
from tools.chaos.subprocess_report import run_experiment

SETUP_TIMEOUT_SECONDS = 225.0
"""The time for starting, settling and stopping the experiments, in addition to ``--minutes``."""
STAGES: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.5, ("deaths",)),
    (0.35, ("answers", "pauses", "rounds")),
    (0.15, ("following",)),
)
"""The share of the time of each stage, and its experiments, which run concurrently."""


class Run:
    """The results of all experiments: ``lines`` of the report, and ``faults``, which must be empty."""

    def __init__(self, seed: int, minutes: float) -> None:
        self.seed = seed
        self._end = time.monotonic() + minutes * 60 + SETUP_TIMEOUT_SECONDS
        self.lines: dict[str, list[str]] = {part: [] for part in EXPERIMENTS}
        self.faults: list[str] = []
        self.table: str | None = None

    def run_stage(self, parts: Sequence[str], seconds: float) -> None:
        """Run the experiments concurrently, each in a process; kill processes that run much longer than that."""
        seconds = min(seconds, self._end - SETTLE_TIMEOUT_SECONDS - 20 - time.monotonic())
        context = multiprocessing.get_context("spawn")
        pipes: dict[Connection, str] = {}
        processes = []
        for part in parts:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=run_experiment, args=(part, self.seed, seconds, sender), name=part)
            process.start()
            sender.close()
            pipes[receiver] = part
            processes.append(process)
        deadline = min(self._end, time.monotonic() + seconds + SETTLE_TIMEOUT_SECONDS + 60)
        while pipes and time.monotonic() < deadline:
            for pipe in wait(list(pipes), timeout=max(0.0, deadline - time.monotonic())):
                assert isinstance(pipe, Connection)
                try:
                    self._receive(pipes[pipe], *pipe.recv())
                except EOFError:
                    del pipes[pipe]
        for process in processes:
            process.join(max(1.0, deadline - time.monotonic()))
            if process.exitcode != 0:
                self._receive(process.name, "fault", f"the process did not end normally: {process.exitcode}")
                process.kill()

    def _receive(self, part: str, what: str, text: str) -> None:
        print(f"{part}: {'FAULT: ' if what == 'fault' else ''}{text}", flush=True)
        match what:
            case "line":
                self.lines[part].append(f"- {text}")
            case "fault":
                self.faults.append(f"{part}: {text}")
            case _:
                self.table = text

    def write(self, minutes: float) -> None:
        head = f"The last long run, {datetime.now(UTC):%Y-%m-%d}, seed {self.seed}, {minutes:.0f} minutes:"
        lines = [line for lines in self.lines.values() for line in lines]
        write_section("figures", "\n".join([head, "", *lines, *(f"- **Fault:** {fault}" for fault in self.faults)]))
        if self.table is not None:
            write_section("table", self.table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos ARGS=")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--minutes", type=float, default=16.0, help="minutes of load, without the time for start and stop"
    )
    parser.add_argument(
        "--only", choices=EXPERIMENTS, action="append", help="run this experiment only, and do not write the page"
    )
    arguments = parser.parse_args()
    run = Run(arguments.seed, arguments.minutes)
    print(f"seed {run.seed}", flush=True)
    started = time.monotonic()
    for share, parts in STAGES:
        if wanted := [part for part in parts if not arguments.only or part in arguments.only]:
            run.run_stage(wanted, arguments.minutes * 60 * share)
    minutes = (time.monotonic() - started) / 60
    if not arguments.only:
        run.write(minutes)
    print(f"{len(run.faults)} faults, seed {run.seed}, {minutes:.1f} minutes")
    return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(main())
