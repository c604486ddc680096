"""Workers that die at named points, and operations that are cancelled or terminated: the short version.

``make chaos`` runs the long one (``tests/chaos/__main__.py``).
"""

from __future__ import annotations

import pytest

from contracts.operations import OperationKind
from tests.chaos.campaign import CALLS, blows, carry_out, crash_points, kills
from tests.chaos.ground import Ground

SEED = 20261122
REGRESSIONS: tuple[int, ...] = ()
"""Seeds of long runs that found something."""


@pytest.mark.parametrize("seed", [SEED, *REGRESSIONS])
async def test_an_operation_ends_done_or_undone_whatever_befalls_it(crash_ground: Ground, seed: int) -> None:
    jobs = [*kills(list(CALLS), 2, seed), *blows("cancel", 5, seed), *blows("terminate", 3, seed)]
    outcome = await carry_out(crash_ground, jobs, seed)
    outcome.check()
    assert outcome.reached.total() > 0, outcome.missed
    assert sum(outcome.ends.values()) == len(jobs)


@pytest.mark.parametrize("kind", CALLS)
def test_there_are_points_before_and_behind_each_effect_and_within_each_undo(kind: OperationKind) -> None:
    points = crash_points(kind)
    assert {point.moment for point in points} >= {"before", "after"}
    assert any(point.failing for point in points)
