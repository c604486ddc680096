"""Mapping between the contract OperationRecord and the rows that store it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import exp, log

from activities.operations.sql import Value
from contracts.operation_records import OperationRecord, Subject, version_of
from contracts.operations import Operation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_LOG_WIDTH = log(1.1)
WAITING_STEPS = frozenset(("check_mfa",))
"""Steps in which an operation waits for a person."""


def microseconds(moment: datetime) -> int:
    """Return the time as whole microseconds since 1970 (UTC)."""
    return (moment - _EPOCH) // MICROSECOND


def moment(microseconds: int) -> datetime:
    """Return the time of whole microseconds since 1970; the inverse of ``microseconds``."""
    return _EPOCH + microseconds * MICROSECOND


def record_row(record: OperationRecord, written_at: datetime) -> dict[str, Value]:
    """Return the row of ``operations_record`` for a record that is written at ``written_at``."""
    operation, subject = record.operation, record.subject
    home, other = (*operation.tenant_ids[:2], "", "")[:2]
    closed_at = operation.closed_at
    duration = -1 if closed_at is None else max(0, (closed_at - operation.started_at) // timedelta(milliseconds=1))
    return {
        "id": operation.id,
        "kind": operation.kind.value,
        "status": operation.state.status.value,
        "version": version_of(operation.position),
        "user_id": operation.user_id,
        "tenant_id": home,
        "other_tenant_id": other,
        "subject": subject.label if subject else None,
        "search_key": subject.label.casefold() if subject else None,
        "is_private": subject.is_private if subject else None,
        "target_id": (subject.target_id if subject else None) or operation.target_id,
        "retry_of": record.retry_of,
        "started_at": microseconds(operation.started_at),
        "closed_at": 0 if closed_at is None else microseconds(closed_at),
        "duration_ms": duration,
        "duration_class": -1 if closed_at is None else duration_class(_active_seconds(operation)),
        "failed_step": (operation.state.failure and operation.state.failure.step) or "",
        "run_id": operation.run_id,
        "needs_repair": operation.needs_repair,
        "written_at": microseconds(written_at),
        "confirmed_at": 0,
        "missing_since": None,
        "deleted_at": None,
    }


def duration_class(seconds: float) -> int:
    """Return the histogram class of a duration: each class is 10 % wider than the previous one, from 1 ms on."""
    return int(log(max(1.0, seconds * 1000)) / _LOG_WIDTH)


def seconds_of(duration_class: int) -> float:
    """Return the middle of a histogram class in seconds, which is within 5 % of every duration in the class."""
    return float(exp((duration_class + 0.5) * _LOG_WIDTH) / 1000)


def _active_seconds(operation: Operation) -> float:
    """Return the duration of a closed operation without the steps in which it waited for a person."""
    assert operation.closed_at is not None
    waited = sum(
        ((step.completed_at or operation.closed_at) - step.started_at).total_seconds()
        for step in operation.state.steps
        if step.name in WAITING_STEPS and step.started_at is not None
    )
    return (operation.closed_at - operation.started_at).total_seconds() - waited


def state_row(record: OperationRecord) -> dict[str, Value]:
    """Return the row of ``operations_state`` for a record."""
    operation = record.operation
    return {"id": operation.id, "version": version_of(operation.position), "operation": operation.model_dump_json()}


def to_record(row: Mapping[str, Value], operation: str) -> OperationRecord:
    """Return the record from a row of ``operations_record`` and the JSON text of its state."""
    label = row["subject"]
    subject = (
        None
        if label is None
        else Subject.model_validate(
            {"label": label, "target_id": row["target_id"], "is_private": bool(row["is_private"])}
        )
    )
    return OperationRecord.model_validate(
        {"operation": Operation.model_validate_json(operation), "subject": subject, "retry_of": row["retry_of"]}
    )
