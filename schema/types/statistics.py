"""Statistics of the operations of a tenant."""

from __future__ import annotations

from datetime import datetime

import strawberry

from schema.types.enums import OperationKind, OperationStatus


@strawberry.type
class OperationStatusCount:
    status: OperationStatus
    count: int


@strawberry.type
class StepFailureCount:
    step: str
    count: int


@strawberry.type
class OperationKindStatistics:
    kind: OperationKind
    count: int
    failed_count: int
    median_seconds: float | None = strawberry.field(description="Duration without the time spent WAITING.")
    p95_seconds: float | None
    failures_by_step: list[StepFailureCount]


@strawberry.type(description="Counts of the operations that started in this interval.")
class OperationBucket:
    start: datetime
    started: int
    completed: int
    failed: int
    cancelled: int


@strawberry.type
class OperationStatistics:
    total_count: int
    active_count: int
    failure_rate: float | None = strawberry.field(
        description="FAILED and TIMED_OUT divided by FAILED, TIMED_OUT and COMPLETED. Null if there are none. "
        "The default period is the last 30 days."
    )
    by_status: list[OperationStatusCount]
    by_kind: list[OperationKindStatistics]
    series: list[OperationBucket] = strawberry.field(
        description="Chronological, without gaps, the newest 200 buckets of the requested interval."
    )
