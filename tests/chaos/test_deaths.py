"""The invariants hold after workers crash and operations are cancelled or terminated (short; long: ``make chaos``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from contracts.operations import OperationKind
from tools.chaos.environment import ChaosEnvironment
from tools.chaos.regressions import load_regressions, save_regressions
from tools.chaos.scenarios import CALLS, crash_points, interruption_jobs, kill_jobs, run_jobs

SEED = 20261122


@pytest.mark.parametrize("seed", [SEED])
async def test_interrupted_operations_complete_or_are_compensated(
    crash_environment: ChaosEnvironment, seed: int
) -> None:
    jobs = [
        *kill_jobs(list(CALLS), 2, seed),
        *interruption_jobs("cancel", 5, seed),
        *interruption_jobs("terminate", 3, seed),
    ]
    jobs += load_regressions()
    outcome = await run_jobs(crash_environment, jobs, seed)
    outcome.check()
    assert outcome.crash_points_reached.total() > 0, outcome.missed
    assert sum(outcome.final_states.values()) >= len(jobs)
    assert len(outcome.repair_seconds) >= outcome.terminated > 0


def test_a_regression_job_is_saved_once(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    file.write_text("[]")
    found = [*kill_jobs([OperationKind.LOGIN], 1, SEED), *interruption_jobs("cancel", 1, SEED)]
    save_regressions(found, file)
    save_regressions([found[1], replace(found[0], attempts_left=0)], file)
    assert load_regressions(file) == found


@pytest.mark.parametrize("kind", CALLS)
def test_each_kind_has_crash_points_in_its_steps_and_undos(kind: OperationKind) -> None:
    points = crash_points(kind)
    assert {point.moment for point in points} >= {"before", "after"}
    assert any(point.failing for point in points)
