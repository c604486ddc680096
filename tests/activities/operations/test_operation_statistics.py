"""Statistics of a tenant's operations: counts, rates, durations and a series without gaps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from activities.operations.service import OperationsService
from contracts.auth import Role
from contracts.callers import Caller
from contracts.errors import NotSignedIn, OperationErrorCode, PermissionDenied
from contracts.operation_records import OperationRecord, RecordFilter, Subject
from contracts.operation_statistics import (
    OperationStatistics,
    StatisticsInterval,
    StatisticsRequest,
    StatusCount,
    StepFailureCount,
)
from contracts.operations import OperationFailure, OperationKind, OperationStatus
from tests.activities.operations.test_operation_records import ADA, GLOBEX, GRACE, NOON, caller, record

ADMINISTRATOR = caller(role=Role.ADMIN)
COMPLETED, FAILED, TIMED_OUT = OperationStatus.COMPLETED, OperationStatus.FAILED, OperationStatus.TIMED_OUT
HOUR = 3600.0


@pytest.fixture
def service() -> OperationsService:
    return OperationsService(lambda: NOON)


def failed_at(step: str, started: float) -> OperationRecord:
    """A record of an onboarding that failed at this step."""
    written = record(started=started, status=FAILED, lasted=1)
    failure = OperationFailure(code=OperationErrorCode.ACTIVITY_FAILED, message="It failed.", step=step)
    state = written.operation.state.model_copy(update={"failure": failure})
    return OperationRecord(operation=written.operation.model_copy(update={"state": state}))


async def statistics(service: OperationsService, who: Caller = ADMINISTRATOR, **request: object) -> OperationStatistics:
    return await service.statistics(who, StatisticsRequest.model_validate(request))


async def test_counts_operations_started_in_the_period_by_status_and_kind(
    any_database: None, service: OperationsService
) -> None:
    await service.write(
        [
            record(started=-1),
            record(started=-2, status=COMPLETED, lasted=1),
            record(OperationKind.FILE_UPLOAD, started=-3, status=TIMED_OUT, lasted=1),
            failed_at("create_workspace", -4),
            record(started=-5, status=OperationStatus.CANCELLED, lasted=1),
            record(started=-31 * 24 * HOUR, status=COMPLETED, lasted=1),
            record(started=-6, tenants=(GLOBEX,)),
        ]
    )

    found = await statistics(service)

    assert (found.total_count, found.active_count) == (5, 1)
    assert found.failure_rate == pytest.approx(2 / 3)
    assert set(found.by_status) == {
        StatusCount(status=status, count=1)
        for status in (OperationStatus.RUNNING, COMPLETED, FAILED, OperationStatus.CANCELLED, TIMED_OUT)
    }
    upload, onboarding = found.by_kind
    assert (upload.kind, upload.count, upload.failed_count) == (OperationKind.FILE_UPLOAD, 1, 1)
    assert (onboarding.count, onboarding.failed_count) == (4, 1)
    assert onboarding.failures_by_step == (StepFailureCount(step="create_workspace", count=1),)


async def test_without_operations_there_are_no_rates(any_database: None, service: OperationsService) -> None:
    found = await statistics(service)

    assert (found.total_count, found.failure_rate, found.by_kind) == (0, None, ())
    assert len(found.series) == 31
    assert {bucket.started for bucket in found.series} == {0}


@pytest.mark.parametrize(
    ("lasted", "median", "p95"), [([1.0] * 9 + [100.0], 1.0, 100.0), (list(range(1, 101)), 50, 95)]
)
async def test_durations_are_exact_within_five_percent(
    lasted: list[float], median: float, p95: float, any_database: None, service: OperationsService
) -> None:
    await service.write([record(started=-1000, status=COMPLETED, lasted=seconds) for seconds in lasted])

    [kind] = (await statistics(service)).by_kind

    assert kind.median_seconds == pytest.approx(median, rel=0.05)
    assert kind.p95_seconds == pytest.approx(p95, rel=0.05)


async def test_time_spent_waiting_for_a_person_is_not_counted(any_database: None, service: OperationsService) -> None:
    login = record(OperationKind.LOGIN, started=-HOUR, status=COMPLETED, lasted=1802)
    started = login.operation.started_at
    waited = {"started_at": started, "completed_at": started + timedelta(seconds=1800)}
    steps = tuple(
        step.model_copy(update=waited) if step.name == "check_mfa" else step for step in login.operation.state.steps
    )
    state = login.operation.state.model_copy(update={"steps": steps})
    await service.write([OperationRecord(operation=login.operation.model_copy(update={"state": state}))])

    [kind] = (await statistics(service)).by_kind

    assert kind.median_seconds == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(
    ("interval", "zone", "period", "expected"),
    [
        ("HOUR", "UTC", (-2 * HOUR, 0), {"2026-03-01T10:00": 1, "2026-03-01T11:00": 2}),
        ("HOUR", "Asia/Kolkata", (-2 * HOUR, 0), {"2026-03-01T09:30": 0, "2026-03-01T10:30": 1, "2026-03-01T11:30": 2}),
        ("DAY", "Europe/Berlin", (-36 * HOUR, 0), {"2026-02-27T23:00": 0, "2026-02-28T23:00": 3}),
        ("MINUTE", "UTC", (-180, 0), {"2026-03-01T11:57": 0, "2026-03-01T11:58": 1, "2026-03-01T11:59": 0}),
    ],
)
async def test_series_has_a_bucket_for_each_interval_of_the_zone(
    interval: str,
    zone: str,
    period: tuple[float, float],
    expected: dict[str, int],
    any_database: None,
    service: OperationsService,
) -> None:
    await service.write([record(started=started) for started in (-1.5 * HOUR, -0.4 * HOUR, -100)])
    filter = RecordFilter(
        started_after=NOON + timedelta(seconds=period[0]), started_before=NOON + timedelta(seconds=period[1])
    )

    series = (await statistics(service, interval=interval, time_zone=zone, filter=filter)).series

    assert {f"{bucket.start:%Y-%m-%dT%H:%M}": bucket.started for bucket in series} == expected


async def test_days_have_the_length_that_the_time_zone_gives_them(
    any_database: None, service: OperationsService
) -> None:
    filter = RecordFilter(
        started_after=datetime(2026, 3, 28, 12, tzinfo=UTC), started_before=datetime(2026, 3, 30, 12, tzinfo=UTC)
    )

    series = (await statistics(service, time_zone="Europe/Berlin", filter=filter)).series

    starts = [bucket.start for bucket in series]
    assert [(later - earlier) // timedelta(hours=1) for earlier, later in pairwise(starts)] == [
        24,
        23,
    ]


async def test_series_holds_the_newest_two_hundred_buckets(any_database: None, service: OperationsService) -> None:
    await service.write([record(started=-1), record(started=-10 * 24 * HOUR)])

    found = await statistics(service, interval=StatisticsInterval.HOUR)

    assert len(found.series) == 200
    assert found.series[-1].start == NOON - timedelta(hours=1)
    assert sum(bucket.started for bucket in found.series) == 1
    assert found.total_count == 2


async def test_filter_applies_to_statistics(any_database: None, service: OperationsService) -> None:
    await service.write(
        [
            record(started=-1, subject=Subject(label="zoe@example.com")),
            record(started=-2, user_id=GRACE, subject=Subject(label="secret.pdf", is_private=True)),
        ]
    )

    assert (await statistics(service, filter=RecordFilter(search="ZOE"))).total_count == 1
    assert (await statistics(service, filter=RecordFilter(search="secret"))).total_count == 0
    assert (await statistics(service, filter=RecordFilter(started_by_ids=(ADA,)))).total_count == 1
    assert (await statistics(service, filter=RecordFilter(kinds=()))).total_count == 0


async def test_members_without_the_permission_see_no_statistics(any_database: None, service: OperationsService) -> None:
    with pytest.raises(PermissionDenied):
        await statistics(service, caller())
    with pytest.raises(NotSignedIn):
        await statistics(service, Caller())
