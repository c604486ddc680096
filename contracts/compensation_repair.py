"""Types for the repair of operations: the compensation of steps after a workflow was terminated or timed out."""

from __future__ import annotations

from typing import Self

from contracts.base import Contract


class EndedOperation(Contract):
    """A closed run of an operation's workflow."""

    operation_id: str
    run_id: str


class RecordedCall(Contract):
    """A call of an activity that changed data, as found in a workflow's history, with the input of its undo."""

    activity: str
    key: str
    file_id: str | None = None
    tenant_id: str | None = None

    @classmethod
    def of(cls, activity: str, argument: Contract) -> Self:
        """Return the record of a call of the activity with this argument, which has an idempotency key."""
        values = argument.model_dump(include={"key", "file_id", "tenant_id"})
        return cls.model_validate({"activity": activity, **values})


class RecordedCalls(Contract):
    """The calls of one run in their order; a call that was retried occurs once."""

    calls: tuple[RecordedCall, ...]


def repair_id(operation_id: str, run_id: str) -> str:
    """Return the id of the workflow that repairs this run of an operation; there is one repair per run."""
    return f"repair-{operation_id}-{run_id}"
