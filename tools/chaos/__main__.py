"""``make chaos``: the long version, within twenty minutes, with its figures written into docs/reliability.md."""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait

from tools.chaos.long_run import GRACE_SECONDS, PARTS_OF_THE_RUN
from tools.chaos.reliability import put
from tools.chaos.subprocess_report import live

LIMIT_SECONDS = 225.0
"""Beside what ``--minutes`` says, for all that begins, settles and ends: then it is over."""
STAGES: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.5, ("deaths",)),
    (0.35, ("answers", "pauses", "rounds")),
    (0.15, ("following",)),
)
"""Shares of the time, and what runs at once in it: the second stage waits more than it works."""


class Run:
    """``lines``: what is written; ``faults``: what must not be."""

    def __init__(self, seed: int, minutes: float) -> None:
        self.seed = seed
        self._end = time.monotonic() + minutes * 60 + LIMIT_SECONDS
        self.lines: dict[str, list[str]] = {part: [] for part in PARTS_OF_THE_RUN}
        self.faults: list[str] = []
        self.table: str | None = None

    def stage(self, parts: Sequence[str], seconds: float) -> None:
        """Its parts at once. Whoever is not over long after the seconds is ended."""
        seconds = min(seconds, self._end - GRACE_SECONDS - 20 - time.monotonic())
        spawning = multiprocessing.get_context("spawn")
        hearing: dict[Connection, str] = {}
        processes = []
        for part in parts:
            mine, theirs = spawning.Pipe(duplex=False)
            process = spawning.Process(target=live, args=(part, self.seed, seconds, theirs), name=part)
            process.start()
            theirs.close()
            hearing[mine] = part
            processes.append(process)
        deadline = min(self._end, time.monotonic() + seconds + GRACE_SECONDS + 60)
        while hearing and time.monotonic() < deadline:
            for pipe in wait(list(hearing), timeout=max(0.0, deadline - time.monotonic())):
                assert isinstance(pipe, Connection)
                try:
                    self._hear(hearing[pipe], *pipe.recv())
                except EOFError:
                    del hearing[pipe]
        for process in processes:
            process.join(max(1.0, deadline - time.monotonic()))
            if process.exitcode != 0:
                self._hear(process.name, "fault", f"did not come to its end: {process.exitcode}")
                process.kill()

    def _hear(self, part: str, what: str, text: str) -> None:
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
        put("figures", "\n".join([head, "", *lines, *(f"- **Fault:** {fault}" for fault in self.faults)]))
        if self.table is not None:
            put("table", self.table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos ARGS=")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--minutes", type=float, default=16.0, help="without starting, settling and stopping")
    parser.add_argument("--only", choices=PARTS_OF_THE_RUN, action="append", help="and write nothing")
    told = parser.parse_args()
    run = Run(told.seed, told.minutes)
    print(f"seed {run.seed}", flush=True)
    began = time.monotonic()
    for share, parts in STAGES:
        if wanted := [part for part in parts if not told.only or part in told.only]:
            run.stage(wanted, told.minutes * 60 * share)
    minutes = (time.monotonic() - began) / 60
    if not told.only:
        run.write(minutes)
    print(f"{len(run.faults)} faults, seed {run.seed}, {minutes:.1f} minutes")
    return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(main())
