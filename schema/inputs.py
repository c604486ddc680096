"""What clients send. The bounds of each value are in ``resolvers.inputs``."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import strawberry
from pydantic import BaseModel
from strawberry import ID, UNSET

from contracts.validation import validate
from schema.scalars import ByteCount
from schema.types.enums import AccessLevel, OperationKind, OperationStatus, Theme


@strawberry.input
class OperationFilter:
    kinds: list[OperationKind] | None = UNSET
    statuses: list[OperationStatus] | None = UNSET
    except_kinds: list[OperationKind] | None = UNSET
    started_after: datetime | None = strawberry.field(default=UNSET, description="Started at or after (inclusive).")
    started_before: datetime | None = strawberry.field(default=UNSET, description="Started before (exclusive).")
    started_by_ids: list[ID] | None = strawberry.field(
        default=UNSET, description="Applies to the operations of all members of a tenant only."
    )
    target_ids: list[ID] | None = UNSET
    search: str | None = strawberry.field(default=UNSET, description="Substring of the subject, case-insensitive.")


@strawberry.input
class RevokeSessionInput:
    session_id: ID


@strawberry.input
class CreateUploadInput:
    name: str
    content_type: str
    size: ByteCount
    checksum: str | None = UNSET
    access_level: AccessLevel = AccessLevel.PRIVATE


@strawberry.input
class UpdatePreferencesInput:
    language: str | None = UNSET
    timezone: str | None = UNSET
    theme: Theme | None = UNSET
    email_notifications: bool | None = UNSET


@strawberry.input
class CancelOperationInput:
    id: ID


@strawberry.input
class RetryOperationInput:
    id: ID
    idempotency_key: str | None = UNSET
    wait_seconds: float | None = 0


Checked = TypeVar("Checked", bound=BaseModel)


def checked(rules: type[Checked], input: object, *, argument: str = "input") -> Checked:
    """Return the input object of an argument within its bounds; the defaults if the client gave none.

    Raises:
        InvalidInput: a value is out of bounds.
    """
    values = given(**vars(input)) if input else {}
    return validate(rules, {name: value for name, value in values.items() if value is not None}, at=(argument,))


def given(**arguments: object) -> dict[str, object]:
    """Those that the client gave."""
    return {name: value for name, value in arguments.items() if value is not UNSET}
