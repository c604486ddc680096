"""How far an operation is, step by step, and why it did not complete."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from schema.types.enums import OperationErrorCode, StepStatus


@strawberry.type
class OperationStep:
    name: str
    status: StepStatus
    attempt: int = strawberry.field(description="0 before it begins, 1 at its first try.")
    started_at: datetime | None
    completed_at: datetime | None
    fraction: float | None = strawberry.field(description="0 to 1 while it runs, where the step reports it.")
    last_error: str | None = strawberry.field(
        description="Why the last try failed, in words for a user; null where none did."
    )
    detail: JSON | None


@strawberry.type
class OperationProgress:
    current_step: str | None = strawberry.field(
        description="Name of the step under way; null before the first and after the last."
    )
    completed_steps: int
    total_steps: int
    fraction: float = strawberry.field(
        description="0 to 1, never falling while RUNNING; includes the part done of the step under way."
    )
    estimated_seconds_remaining: float | None = strawberry.field(
        description="From the measured durations of earlier runs of the same steps; null while there are none."
    )
    steps: list[OperationStep] = strawberry.field(description="Every step, in order, those not begun included.")


@strawberry.type
class FieldError:
    path: list[str]
    message: str


@strawberry.type(description="Nulls and an empty list where there is nothing to say.")
class OperationError:
    code: OperationErrorCode
    message: str
    step: str | None
    retryable: bool = strawberry.field(description="Starting it again unchanged may succeed.")
    user_recoverable: bool = strawberry.field(description="The user can put it right, by other input for instance.")
    compensated: bool = strawberry.field(description="Every finished step was undone.")
    fields: list[FieldError]
