"""Contracts for the repair of an operation that ended without undoing its steps, such as a terminated one."""

from __future__ import annotations

from typing import Self

from contracts.base import Contract


class EndedOperation(Contract):
    """One run of an operation's workflow, which has closed."""

    operation_id: str
    run_id: str


class RecordedCall(Contract):
    """A call of an activity with an idempotency key, and the arguments for the undo of the activity."""

    activity: str
    key: str
    file_id: str | None = None
    tenant_id: str | None = None

    @classmethod
    def of(cls, activity: str, argument: Contract) -> Self:
        """Return the recorded call of the activity with an argument that has an idempotency key."""
        facts = argument.model_dump(include={"key", "file_id", "tenant_id"})
        return cls.model_validate({"activity": activity, **facts})


class RecordedCalls(Contract):
    """The calls of one run that have compensations, in the order of the calls, each once regardless of its attempts."""

    calls: tuple[RecordedCall, ...]


def repair_id(operation_id: str, run_id: str) -> str:
    """Return the id of the workflow that repairs this run of an operation; each run is repaired at most once."""
    return f"repair-{operation_id}-{run_id}"
