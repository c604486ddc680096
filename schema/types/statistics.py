"""The types of operation statistics."""

from __future__ import annotations

from datetime import datetime

import strawberry

from schema.types.enums import OperationKind, OperationStatus


@strawberry.type(description="Number of operations with a status.")
class OperationStatusCount:
    status: OperationStatus = strawberry.field(description="Status of the operations.")
    count: int = strawberry.field(description="Number of operations.")


@strawberry.type(description="Number of operations that failed in a step.")
class StepFailureCount:
    step: str = strawberry.field(description="Name of the step.")
    count: int = strawberry.field(description="Number of operations.")


@strawberry.type(description="Statistics of the operations of one kind.")
class OperationKindStatistics:
    kind: OperationKind = strawberry.field(description="Kind of the operations.")
    count: int = strawberry.field(description="Number of operations.")
    failed_count: int = strawberry.field(description="Number of operations that are FAILED or TIMED_OUT.")
    median_seconds: float | None = strawberry.field(description="Duration without the time spent WAITING.")
    p95_seconds: float | None = strawberry.field(
        description="95th percentile of the duration without the time spent WAITING."
    )
    failures_by_step: list[StepFailureCount] = strawberry.field(
        description="Number of failed operations by the step that failed."
    )


@strawberry.type(description="Counts of the operations that started in this interval.")
class OperationBucket:
    start: datetime = strawberry.field(description="Start of the interval.")
    started: int = strawberry.field(description="Number of operations that started.")
    completed: int = strawberry.field(description="Number of these operations that are COMPLETED.")
    failed: int = strawberry.field(description="Number of these operations that are FAILED or TIMED_OUT.")
    cancelled: int = strawberry.field(description="Number of these operations that are CANCELLED.")


@strawberry.type(description="Statistics of operations.")
class OperationStatistics:
    total_count: int = strawberry.field(description="Number of operations.")
    active_count: int = strawberry.field(description="Number of operations that have not closed.")
    failure_rate: float | None = strawberry.field(
        description="FAILED and TIMED_OUT divided by FAILED, TIMED_OUT and COMPLETED. Null if there are none. "
        "The default period is the last 30 days."
    )
    by_status: list[OperationStatusCount] = strawberry.field(description="Number of operations by status.")
    by_kind: list[OperationKindStatistics] = strawberry.field(description="Statistics by kind of operation.")
    series: list[OperationBucket] = strawberry.field(
        description="Chronological, without gaps, at most 200 buckets of the requested interval (the newest)."
    )
