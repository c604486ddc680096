"""An operation's steps summed up: how far it is, and how long the rest will take."""

from __future__ import annotations

from typing import NamedTuple

from contracts.operations import Operation, OperationStatus, Step, StepStatus
from resolvers.durations import Durations

_BEHIND = frozenset((StepStatus.COMPLETED, StepStatus.SKIPPED))
_UNDER_WAY = frozenset((StepStatus.RUNNING, StepStatus.RETRYING))


class Progress(NamedTuple):
    """``fraction`` is 0 to 1; ``completed_steps`` counts the skipped ones, for they too lie behind."""

    current_step: str | None
    completed_steps: int
    total_steps: int
    fraction: float
    estimated_seconds_remaining: float | None
    steps: tuple[Step, ...]


def progress(operation: Operation, durations: Durations) -> Progress:
    steps = operation.state.steps
    under_way = None if operation.state.status.is_closed else _first_under_way(steps)
    completed = sum(step.status in _BEHIND for step in steps)
    done = completed + (under_way.fraction or 0.0 if under_way else 0.0)
    return Progress(
        current_step=under_way.name if under_way else None,
        completed_steps=completed,
        total_steps=len(steps),
        fraction=1.0 if operation.state.status is OperationStatus.COMPLETED else min(1.0, done / len(steps)),
        estimated_seconds_remaining=durations.remaining(operation),
        steps=steps,
    )


def _first_under_way(steps: tuple[Step, ...]) -> Step | None:
    return next((step for step in steps if step.status in _UNDER_WAY), None)
