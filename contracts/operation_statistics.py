"""Types of the statistics of a tenant's operations: counts, failure rates, durations and a time series."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from contracts.base import Contract
from contracts.operation_records import RecordFilter
from contracts.operations import OperationKind, OperationStatus

MAX_BUCKETS = 200
"""Maximum number of intervals in a time series."""


class StatisticsInterval(StrEnum):
    """The length of the intervals of the time series."""

    MINUTE = "MINUTE"
    HOUR = "HOUR"
    DAY = "DAY"


class StatisticsRequest(Contract):
    """A request for statistics of the operations that match the filter.

    Without ``started_after`` in the filter, the operations of the last 30 days are counted. ``time_zone``: a name of
    the IANA database; days begin at midnight in this zone.
    """

    filter: RecordFilter = RecordFilter()
    interval: StatisticsInterval = StatisticsInterval.DAY
    time_zone: str = "UTC"


class StepFailureCount(Contract):
    """The number of operations that failed in a step."""

    step: str
    count: int


class KindStatistics(Contract):
    """Statistics of the operations of one kind.

    Durations are in seconds, without the time in which an operation waited for a user, and exact to 5 %. They are None
    if no operation has closed.
    """

    kind: OperationKind
    count: int
    failed_count: int
    median_seconds: float | None
    p95_seconds: float | None
    failures_by_step: tuple[StepFailureCount, ...]


class StatusCount(Contract):
    """The number of operations with a status."""

    status: OperationStatus
    count: int


class OperationBucket(Contract):
    """The operations that started within one interval of the time series, which begins at ``start``."""

    start: datetime
    started: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class OperationStatistics(Contract):
    """Statistics of a tenant's operations. ``failure_rate``: failed / closed operations; None if none has closed."""

    total_count: int
    active_count: int
    failure_rate: float | None
    by_status: tuple[StatusCount, ...]
    by_kind: tuple[KindStatistics, ...]
    series: tuple[OperationBucket, ...]
