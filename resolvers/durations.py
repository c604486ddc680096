"""How long each step took in earlier runs, so that clients can be told how long the rest will take."""

from __future__ import annotations

from collections import OrderedDict

from contracts.base import utc_now
from contracts.operations import Operation, OperationKind, OperationStatus, Step, StepStatus

_SEEN = 1_000
_WEIGHT = 0.2
"""Of the newest run in the moving average: about the last ten runs count."""
_BEHIND = frozenset((StepStatus.COMPLETED, StepStatus.SKIPPED))


class Durations:
    """Moving averages in seconds a kind and step, learned from the runs that this process saw complete."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[OperationKind, str], float] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()

    def learn(self, operation: Operation) -> None:
        """Take a completed run into account, once."""
        if operation.state.status is not OperationStatus.COMPLETED or operation.id in self._seen:
            return
        self._seen[operation.id] = None
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        for step in operation.state.steps:
            if step.started_at and step.completed_at:
                self._enter((operation.kind, step.name), (step.completed_at - step.started_at).total_seconds())

    def remaining(self, operation: Operation) -> float | None:
        """Seconds until the operation is through; None where it is not on its way there or a step is unmeasured."""
        if operation.state.status is OperationStatus.COMPLETED:
            return 0.0
        if operation.state.status is not OperationStatus.RUNNING:
            return None
        total = 0.0
        for step in operation.state.steps:
            if step.status in _BEHIND:
                continue
            usual = self._seconds.get((operation.kind, step.name))
            if usual is None:
                return None
            total += max(0.0, usual - _spent(step, usual))
        return total

    def _enter(self, step: tuple[OperationKind, str], seconds: float) -> None:
        before = self._seconds.get(step)
        self._seconds[step] = seconds if before is None else before + _WEIGHT * (seconds - before)


def _spent(step: Step, usual: float) -> float:
    """Seconds of the step that lie behind, by the part done that it reports, or else by the clock."""
    if step.started_at is None:
        return 0.0
    if step.fraction is not None:
        return usual * step.fraction
    return (utc_now() - step.started_at).total_seconds()
