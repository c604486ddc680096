"""Statistics of the operations of a tenant: counts, failure rates, durations and a series over time."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from contracts.base import Contract
from contracts.operation_records import RecordFilter
from contracts.operations import OperationKind, OperationStatus

MAX_BUCKETS = 200


class StatisticsInterval(StrEnum):
    MINUTE = "MINUTE"
    HOUR = "HOUR"
    DAY = "DAY"


class StatisticsRequest(Contract):
    """Which operations are counted: without ``started_after``, those that started in the last 30 days.

    ``time_zone`` is a name of the IANA database; days begin at its midnight.
    """

    filter: RecordFilter = RecordFilter()
    interval: StatisticsInterval = StatisticsInterval.DAY
    time_zone: str = "UTC"


class StepFailureCount(Contract):
    step: str
    count: int


class KindStatistics(Contract):
    """Durations are in seconds without the time spent waiting for a person, within 5 %; None if nothing closed."""

    kind: OperationKind
    count: int
    failed_count: int
    median_seconds: float | None
    p95_seconds: float | None
    failures_by_step: tuple[StepFailureCount, ...]


class StatusCount(Contract):
    status: OperationStatus
    count: int


class OperationBucket(Contract):
    """Operations by the time at which they started."""

    start: datetime
    started: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class OperationStatistics(Contract):
    total_count: int
    active_count: int
    failure_rate: float | None
    by_status: tuple[StatusCount, ...]
    by_kind: tuple[KindStatistics, ...]
    series: tuple[OperationBucket, ...]
