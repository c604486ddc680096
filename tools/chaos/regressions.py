"""Regression jobs: jobs of operations that once violated an invariant. Every short run repeats them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from contracts.operations import OperationKind
from tools.chaos.crash_points import CrashPlan
from tools.chaos.scenarios import MAX_ATTEMPTS, Job

FILE = Path(__file__).with_name("regressions.json")


def load_regressions(file: Path = FILE) -> list[Job]:
    """Return the jobs of the file."""
    return [
        Job(
            OperationKind(job["kind"]),
            job["interruption"],
            None if job["plan"] is None else CrashPlan(**job["plan"]),
            job["moment"],
        )
        for job in json.loads(file.read_text())
    ]


def save_regressions(found: Iterable[Job], file: Path = FILE) -> None:
    """Add the jobs to the file, each once."""
    kept = load_regressions(file)
    fresh = dict.fromkeys(replace(job, attempts_left=MAX_ATTEMPTS - 1) for job in found)
    kept += [job for job in fresh if job not in kept]
    entries = [{name: value for name, value in asdict(job).items() if name != "attempts_left"} for job in kept]
    file.write_text(json.dumps(entries, indent=2) + "\n")
