"""The types of an operation's progress, its steps and its error."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from schema.types.enums import OperationErrorCode, StepStatus


@strawberry.type(description="A step of an operation.")
class OperationStep:
    name: str = strawberry.field(description="Name of the step, for example create_session.")
    status: StepStatus = strawberry.field(description="Status of the step.")
    attempt: int = strawberry.field(
        description="Number of the current attempt: 0 before the step starts, 1 for the first attempt."
    )
    started_at: datetime | None = strawberry.field(description="When the first attempt started.")
    completed_at: datetime | None = strawberry.field(description="When the step completed.")
    fraction: float | None = strawberry.field(description="0 to 1 while the step runs, if it reports progress.")
    last_error: str | None = strawberry.field(
        description="Why the last attempt failed, as a message for users. Null if no attempt failed."
    )
    detail: JSON | None = strawberry.field(description="Data that the step reports, specific to the step.")


@strawberry.type(description="Progress of an operation.")
class OperationProgress:
    current_step: str | None = strawberry.field(
        description="Name of the current step. Null before the first step and after the last."
    )
    completed_steps: int = strawberry.field(description="Number of completed steps.")
    total_steps: int = strawberry.field(description="Number of all steps.")
    fraction: float = strawberry.field(
        description="0 to 1. Never decreases while RUNNING. Includes the completed part of the current step."
    )
    estimated_seconds_remaining: float | None = strawberry.field(
        description="Estimated from earlier runs of the same steps. Null if there are none."
    )
    steps: list[OperationStep] = strawberry.field(
        description="All steps in order, including those that have not started."
    )


@strawberry.type(description="An invalid value in an input.")
class FieldError:
    path: list[str] = strawberry.field(description="Names of the argument and the input fields that lead to the value.")
    message: str = strawberry.field(description="Message for users.")


@strawberry.type(description="Why an operation did not complete.")
class OperationError:
    code: OperationErrorCode = strawberry.field(description="Category of the error.")
    message: str = strawberry.field(description="Message for users.")
    step: str | None = strawberry.field(
        description="Name of the step that failed. Null if the error concerns no single step."
    )
    retryable: bool = strawberry.field(description="True if a retry with the same input may succeed.")
    user_recoverable: bool = strawberry.field(
        description="True if the user can correct the cause, for example by changing the input."
    )
    compensated: bool = strawberry.field(description="True if every completed step was undone.")
    fields: list[FieldError] = strawberry.field(
        description="The invalid values of the input. Empty if the error concerns no input."
    )
