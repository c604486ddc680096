"""What a worker process counts and measures, under the names that dashboards and alerts use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor
from temporalio.workflow import Info

from contracts.operations import OperationKind, kind_of
from workflows.options import COMPENSATION

_LONG = timedelta(hours=1)
_EVERY_SECONDS = 60.0
_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)


CountOpen: TypeAlias = Callable[[datetime], Awaitable[Mapping[str, int]]]
"""Counts by kind the operations that were started before a moment and have not closed."""

log = structlog.get_logger(__name__)


def is_undo(info: activity.Info) -> bool:
    """Nothing else has so many tries."""
    return info.retry_policy is not None and info.retry_policy.maximum_attempts == COMPENSATION.retry.maximum_attempts


class Metrics(Interceptor):
    """One a process; put it on every worker, outermost."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("kind", "outcome")
        self._executions = Counter(
            "workflow_executions", "Operations that ended here, by kind and outcome.", labels, registry=registry
        )
        self._durations = Histogram(
            "workflow_duration_seconds",
            "From an operation's start to its end.",
            labels,
            buckets=_SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "activity_failures",
            "Tries of activities that failed: answers, and trouble by its class.",
            ("activity", "reason"),
            registry=registry,
        )
        self._compensations = Counter(
            "compensation_executions",
            "Undos, by activity; `retried` is a try that is followed by another.",
            ("activity", "outcome"),
            registry=registry,
        )

        self._long = Gauge(
            "workflow_running_long",
            "Operations that have been running for more than an hour.",
            ("kind",),
            registry=registry,
        )

    async def watch_long(self, count_open: CountOpen) -> None:
        """Count, every minute and until it is cancelled, what goes on for longer than anything should."""
        while True:
            try:
                counts = await count_open(datetime.now(UTC) - _LONG)
            except Exception as error:  # noqa: BLE001 - the next minute counts again
                log.warning("operations that run long cannot be counted", error=repr(error))
            else:
                for kind in OperationKind:
                    self._long.labels(kind.value).set(counts.get(kind.value, 0))
            await asyncio.sleep(_EVERY_SECONDS)

    def closed(self, info: Info, outcome: str) -> None:
        """A workflow closed: ``completed``, ``failed`` or ``cancelled``."""
        kind = kind_of(info.workflow_id)
        name = kind.value if kind else info.workflow_type
        self._executions.labels(name, outcome).inc()
        self._durations.labels(name, outcome).observe((datetime.now(UTC) - info.start_time).total_seconds())

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Activities(next, self._failures, self._compensations)


class _Activities(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, failures: Counter, compensations: Counter) -> None:
        super().__init__(next)
        self._failures = failures
        self._compensations = compensations

    async def execute_activity(self, input: ExecuteActivityInput) -> object:
        info = activity.info()
        undoes = is_undo(info)
        try:
            result: object = await super().execute_activity(input)
        except Exception as error:
            told = error if isinstance(error, ApplicationError) else None
            self._failures.labels(info.activity_type, (told and told.type) or type(error).__name__).inc()
            if undoes:
                is_last = info.attempt >= COMPENSATION.retry.maximum_attempts or (
                    told is not None and told.non_retryable
                )
                self._compensations.labels(info.activity_type, "failed" if is_last else "retried").inc()
            raise
        if undoes:
            self._compensations.labels(info.activity_type, "completed").inc()
        return result
