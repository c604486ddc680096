"""How long the rest takes, from what earlier runs took; and how far it is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from contracts.base import utc_now
from contracts.operations import (
    Operation,
    OperationKind,
    OperationState,
    OperationStatus,
    Position,
    Step,
    StepStatus,
)
from resolvers.durations import Durations
from resolvers.timeline import progress

NOW = utc_now()


def ran(name: str, seconds: float) -> Step:
    return Step(name=name, status=StepStatus.COMPLETED, started_at=NOW, completed_at=NOW + timedelta(seconds=seconds))


def operation(number: int, status: OperationStatus, *steps: Step) -> Operation:
    return Operation(
        id=f"login-{number:032x}",
        kind=OperationKind.LOGIN,
        user_id="usr",
        tenant_ids=(),
        state=OperationState(started_at=NOW, status=status, steps=steps),
        position=Position(revision=0),
    )


def test_nothing_is_estimated_before_a_run_was_measured() -> None:
    waiting = operation(1, OperationStatus.RUNNING, Step(name="a"))
    assert progress(waiting, Durations()).estimated_seconds_remaining is None


def test_the_rest_takes_as_long_as_it_took_before() -> None:
    durations = Durations()
    durations.learn(operation(1, OperationStatus.COMPLETED, ran("a", 2), ran("b", 4)))
    assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"), Step(name="b"))) == 6
    assert durations.remaining(operation(2, OperationStatus.RUNNING, ran("a", 9), Step(name="b"))) == 4


def test_what_a_step_reports_counts_as_done() -> None:
    durations = Durations()
    durations.learn(operation(1, OperationStatus.COMPLETED, ran("a", 4)))
    half = Step(name="a", status=StepStatus.RUNNING, started_at=NOW, fraction=0.5)
    assert durations.remaining(operation(2, OperationStatus.RUNNING, half)) == 2


def test_a_run_counts_once_however_often_it_is_looked_at() -> None:
    durations = Durations()
    durations.learn(operation(1, OperationStatus.COMPLETED, ran("a", 2)))
    for _ in range(50):
        durations.learn(operation(2, OperationStatus.COMPLETED, ran("a", 12)))
    assert durations.remaining(operation(3, OperationStatus.RUNNING, Step(name="a"))) == pytest.approx(4)


def test_a_run_that_did_not_complete_teaches_nothing() -> None:
    durations = Durations()
    durations.learn(operation(1, OperationStatus.FAILED, ran("a", 2)))
    assert durations.remaining(operation(2, OperationStatus.RUNNING, Step(name="a"))) is None


def test_steps_behind_and_the_part_done_of_the_one_under_way_make_the_fraction() -> None:
    skipped = Step(name="b", status=StepStatus.SKIPPED)
    under_way = Step(name="c", status=StepStatus.RETRYING, started_at=NOW, fraction=0.5)
    shown = progress(
        operation(1, OperationStatus.RUNNING, ran("a", 1), skipped, under_way, Step(name="d")), Durations()
    )
    assert (shown.current_step, shown.completed_steps, shown.total_steps, shown.fraction) == ("c", 2, 4, 0.625)
