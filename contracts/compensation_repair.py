"""Repairs: taking back what an operation did that was ended from outside, before it could do so itself."""

from __future__ import annotations

from typing import Self

from contracts.base import Contract


class EndedOperation(Contract):
    """One run of an operation's workflow, which has closed."""

    operation_id: str
    run_id: str


class RecordedCall(Contract):
    """A call that an operation made of an activity that changes something, by its name, and what its undo is given."""

    activity: str
    key: str
    file_id: str | None = None
    tenant_id: str | None = None

    @classmethod
    def of(cls, activity: str, argument: Contract) -> Self:
        """Return the effect of calling the activity with the argument, which has an idempotency key."""
        facts = argument.model_dump(include={"key", "file_id", "tenant_id"})
        return cls.model_validate({"activity": activity, **facts})


class Effects(Contract):
    """In the order of the calls; each once, however often it was tried."""

    effects: tuple[RecordedCall, ...]


def repair_id(operation_id: str, run_id: str) -> str:
    """The id of the workflow that repairs this run of an operation: each run is repaired once."""
    return f"repair-{operation_id}-{run_id}"
