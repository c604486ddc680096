"""Workers that die at named points, and operations that are cancelled or terminated: the short version.

``make chaos`` runs the long one (``tests/chaos/__main__.py``).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from contracts.operations import OperationKind
from tools.chaos.environment import Ground
from tools.chaos.regressions import keep, regressions
from tools.chaos.scenarios import CALLS, blows, carry_out, crash_points, kills

SEED = 20261122


@pytest.mark.parametrize("seed", [SEED])
async def test_an_operation_ends_done_or_undone_whatever_befalls_it(crash_ground: Ground, seed: int) -> None:
    jobs = [*kills(list(CALLS), 2, seed), *blows("cancel", 5, seed), *blows("terminate", 3, seed)]
    jobs += regressions()
    outcome = await carry_out(crash_ground, jobs, seed)
    outcome.check()
    assert outcome.reached.total() > 0, outcome.missed
    assert sum(outcome.ends.values()) >= len(jobs)
    assert len(outcome.repairs) >= outcome.terminated > 0


def test_what_broke_an_invariant_is_kept_once_and_done_again(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    file.write_text("[]")
    found = [*kills([OperationKind.LOGIN], 1, SEED), *blows("cancel", 1, SEED)]
    keep(found, file)
    keep([found[1], replace(found[0], tries_left=0)], file)
    assert regressions(file) == found


@pytest.mark.parametrize("kind", CALLS)
def test_there_are_points_before_and_behind_each_effect_and_within_each_undo(kind: OperationKind) -> None:
    points = crash_points(kind)
    assert {point.moment for point in points} >= {"before", "after"}
    assert any(point.failing for point in points)
