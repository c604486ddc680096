"""Statistics of a tenant's operations, computed from the record by two grouped queries that an index answers alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from activities.operations.listing import add_filter
from activities.operations.mapping import moment, seconds_of
from activities.operations.sql import Statement
from contracts.operation_records import RecordPageRequest
from contracts.operation_statistics import (
    MAX_BUCKETS,
    KindStatistics,
    OperationBucket,
    OperationStatistics,
    StatisticsInterval,
    StatisticsRequest,
    StatusCount,
    StepFailureCount,
)
from contracts.operations import OperationKind, OperationStatus

DEFAULT_PERIOD = timedelta(days=30)
"""Period of the statistics if the filter has no start time."""
_FAILED = (OperationStatus.FAILED, OperationStatus.TIMED_OUT)
_INTERVAL_DURATIONS = {
    StatisticsInterval.MINUTE: timedelta(minutes=1),
    StatisticsInterval.HOUR: timedelta(hours=1),
    StatisticsInterval.DAY: timedelta(days=1),
}
_QUARTER_HOUR = timedelta(minutes=15)
"""Every time zone in use differs from UTC by a multiple of it."""


class StatisticsQuery:
    """The SQL statements for one request of statistics, and the computation of the statistics from their rows."""

    def __init__(self, dialect: str, user_id: str, tenant_id: str, request: StatisticsRequest, now: datetime) -> None:
        self._dialect = dialect
        self._user_id = user_id
        self._tenant_id = tenant_id
        self._interval = request.interval
        self._zone = ZoneInfo(request.time_zone)
        started_after = request.filter.started_after or (request.filter.started_before or now) - DEFAULT_PERIOD
        self._until = request.filter.started_before or now
        self._filter = request.filter.model_copy(update={"started_after": started_after})

    def groups(self) -> Statement:
        """Count operations by ``kind``, ``status``, ``failed_step`` and ``duration_class``."""
        columns = "r.kind, r.status, r.failed_step, r.duration_class"
        statement = self._matching(self._filter.started_after)
        statement.text = (
            f"SELECT {columns}, COUNT(*) AS count FROM operations_record r "  # noqa: S608 - all of it is constant
            f"WHERE {statement.condition} GROUP BY {columns}"
        )
        return statement

    def starts(self) -> Statement:
        """Count operations by ``status`` and by the ``slice`` of time in which they started, for the series."""
        size = min(_INTERVAL_DURATIONS[self._interval], _QUARTER_HOUR) // timedelta(microseconds=1)
        assert self._filter.started_after is not None
        statement = self._matching(max(self._filter.started_after, next(self._bucket_starts(), self._until)))
        statement.text = (
            f"SELECT r.started_at / {size} AS slice, MIN(r.started_at) AS first, r.status, COUNT(*) AS count "  # noqa: S608
            f"FROM operations_record r WHERE {statement.condition} GROUP BY r.started_at / {size}, r.status"
        )
        return statement

    def summary(self, groups: Iterable[Mapping[str, Any]], starts: Iterable[Mapping[str, Any]]) -> OperationStatistics:
        """Compute the statistics from the rows of ``groups`` and ``starts``."""
        by_status: Counter[OperationStatus] = Counter()
        kinds: defaultdict[OperationKind, _KindCounts] = defaultdict(_KindCounts)
        for row in groups:
            status = OperationStatus(row["status"])
            by_status[status] += row["count"]
            kinds[OperationKind(row["kind"])].add(status, row["failed_step"], row["duration_class"], row["count"])
        return OperationStatistics(
            total_count=by_status.total(),
            active_count=sum(count for status, count in by_status.items() if not status.is_closed),
            failure_rate=_failure_rate(by_status),
            by_status=tuple(
                StatusCount(status=status, count=by_status[status]) for status in OperationStatus if by_status[status]
            ),
            by_kind=tuple(kinds[kind].summary(kind) for kind in OperationKind if kind in kinds),
            series=self._series(starts),
        )

    def _matching(self, started_after: datetime | None) -> Statement:
        statement = Statement(self._dialect)
        statement.where("r.tenant_id = {}", self._tenant_id)
        statement.where("r.deleted_at IS NULL")
        filter = self._filter.model_copy(update={"started_after": started_after})
        add_filter(statement, RecordPageRequest(of_all_members=True, filter=filter), self._user_id)
        return statement

    def _series(self, starts: Iterable[Mapping[str, Any]]) -> tuple[OperationBucket, ...]:
        counts = {start: Counter[str]() for start in self._bucket_starts()}
        for row in starts:
            bucket = counts.get(self._bucket_of(moment(row["first"])))
            if bucket is None:
                continue
            status = OperationStatus(row["status"])
            bucket["started"] += row["count"]
            if status is OperationStatus.COMPLETED:
                bucket["completed"] += row["count"]
            elif status in _FAILED:
                bucket["failed"] += row["count"]
            elif status is OperationStatus.CANCELLED:
                bucket["cancelled"] += row["count"]
        return tuple(OperationBucket(start=start, **counts[start]) for start in sorted(counts))

    def _bucket_starts(self) -> Iterator[datetime]:
        """Return the start times of the newest buckets of the period, oldest first, at most 200."""
        assert self._filter.started_after is not None
        starts: list[datetime] = []
        last = self._until - timedelta(microseconds=1)
        while last >= self._filter.started_after and len(starts) < MAX_BUCKETS:
            starts.append(self._bucket_of(last))
            last = starts[-1] - timedelta(microseconds=1)
        return reversed(starts)

    def _bucket_of(self, instant: datetime) -> datetime:
        if self._interval is StatisticsInterval.MINUTE:
            return instant.astimezone(UTC).replace(second=0, microsecond=0)
        local = instant.astimezone(self._zone).replace(minute=0, second=0, microsecond=0)
        if self._interval is StatisticsInterval.DAY:
            local = local.replace(hour=0, fold=0)
        return local.astimezone(UTC)


class _KindCounts:
    """Counts of the operations of one kind."""

    def __init__(self) -> None:
        self._count = 0
        self._failed = 0
        self._steps: Counter[str] = Counter()
        self._classes: Counter[int] = Counter()

    def add(self, status: OperationStatus, failed_step: str, duration_class: int, count: int) -> None:
        self._count += count
        if status in _FAILED:
            self._failed += count
            if failed_step:
                self._steps[failed_step] += count
        if duration_class >= 0:
            self._classes[duration_class] += count

    def summary(self, kind: OperationKind) -> KindStatistics:
        return KindStatistics(
            kind=kind,
            count=self._count,
            failed_count=self._failed,
            median_seconds=self._quantile(0.5),
            p95_seconds=self._quantile(0.95),
            failures_by_step=tuple(
                StepFailureCount(step=step, count=count) for step, count in self._steps.most_common()
            ),
        )

    def _quantile(self, fraction: float) -> float | None:
        remaining = fraction * self._classes.total()
        for duration_class in sorted(self._classes):
            remaining -= self._classes[duration_class]
            if remaining <= 0:
                return seconds_of(duration_class)
        return None


def _failure_rate(by_status: Counter[OperationStatus]) -> float | None:
    failed = sum(by_status[status] for status in _FAILED)
    ended = failed + by_status[OperationStatus.COMPLETED]
    return failed / ended if ended else None
