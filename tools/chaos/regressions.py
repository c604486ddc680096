"""What a run found once is done again in each short run: jobs that befell an operation which broke an invariant."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from contracts.operations import OperationKind
from tools.chaos.crash_points import Plan
from tools.chaos.scenarios import TRIES, Job

FILE = Path(__file__).with_name("regressions.json")


def regressions(file: Path = FILE) -> list[Job]:
    return [
        Job(
            OperationKind(told["kind"]),
            told["blow"],
            None if told["plan"] is None else Plan(**told["plan"]),
            told["moment"],
        )
        for told in json.loads(file.read_text())
    ]


def keep(found: Iterable[Job], file: Path = FILE) -> None:
    """Each once, beside those that are kept."""
    kept = regressions(file)
    fresh = dict.fromkeys(replace(job, tries_left=TRIES - 1) for job in found)
    kept += [job for job in fresh if job not in kept]
    told = [{name: value for name, value in asdict(job).items() if name != "tries_left"} for job in kept]
    file.write_text(json.dumps(told, indent=2) + "\n")
