"""Prometheus metrics of a worker process: operations, failed activities and compensations."""

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

_LONG_RUNNING = timedelta(hours=1)
_COUNT_INTERVAL_SECONDS = 60.0
_DURATION_BUCKETS_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)


CountOpen: TypeAlias = Callable[[datetime], Awaitable[Mapping[str, int]]]
"""Counts, by kind, the open operations that were started before the given time."""

log = structlog.get_logger(__name__)


def is_undo(info: activity.Info) -> bool:
    """Whether the activity is an undo: no other activity has this number of attempts."""
    return info.retry_policy is not None and info.retry_policy.maximum_attempts == COMPENSATION.retry.maximum_attempts


class Metrics(Interceptor):
    """Records the metrics of all workers of a process. It wraps the interceptors that translate errors."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("kind", "outcome")
        self._executions = Counter(
            "workflow_executions",
            "Operations that closed in this process, by kind and outcome.",
            labels,
            registry=registry,
        )
        self._durations = Histogram(
            "workflow_duration_seconds",
            "Time from the start of an operation to its end.",
            labels,
            buckets=_DURATION_BUCKETS_SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "activity_failures",
            "Failed attempts of activities, by activity and error class.",
            ("activity", "reason"),
            registry=registry,
        )
        self._compensations = Counter(
            "compensation_executions",
            "Attempts of undos, by activity; the outcome of a failed attempt is `retried` if another follows.",
            ("activity", "outcome"),
            registry=registry,
        )

        self._long_running = Gauge(
            "workflow_long_running",
            "Operations that have been running for more than an hour.",
            ("kind",),
            registry=registry,
        )

    async def count_long_running(self, count_open: CountOpen) -> None:
        """Count the operations that have run for more than an hour, every minute until cancelled."""
        while True:
            try:
                counts = await count_open(datetime.now(UTC) - _LONG_RUNNING)
            except Exception as error:  # noqa: BLE001 - the next count may succeed
                log.warning("long_running_count_failed", error=repr(error))
            else:
                for kind in OperationKind:
                    self._long_running.labels(kind.value).set(counts.get(kind.value, 0))
            await asyncio.sleep(_COUNT_INTERVAL_SECONDS)

    def record_closed(self, info: Info, outcome: str) -> None:
        """Record that a workflow closed with the outcome ``completed``, ``failed`` or ``cancelled``."""
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
        is_compensation = is_undo(info)
        try:
            result: object = await super().execute_activity(input)
        except Exception as error:
            translated = error if isinstance(error, ApplicationError) else None
            self._failures.labels(info.activity_type, (translated and translated.type) or type(error).__name__).inc()
            if is_compensation:
                is_last = info.attempt >= COMPENSATION.retry.maximum_attempts or (
                    translated is not None and translated.non_retryable
                )
                self._compensations.labels(info.activity_type, "failed" if is_last else "retried").inc()
            raise
        if is_compensation:
            self._compensations.labels(info.activity_type, "completed").inc()
        return result
