"""What each mutation and field takes, beyond what its GraphQL type says; the rules are in ``contracts.validation``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import InvalidInput
from contracts.files import AccessLevel
from contracts.operation_records import OperationOrder
from contracts.operation_statistics import StatisticsInterval
from contracts.users import Theme
from contracts.validation import (
    Checksum,
    Cursor,
    FileName,
    First,
    Id,
    IdempotencyKey,
    LanguageTag,
    MediaType,
    TimeZone,
    WaitSeconds,
    validate,
)


class Input(BaseModel):
    """Checked input. What the client left out or sent as null has the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def check(cls, given: Mapping[str, object], *, at: tuple[str, ...] = ()) -> Self:
        """InvalidInput names each wrong field by its path, which begins with ``at``."""
        return validate(cls, {name: value for name, value in given.items() if value is not None}, at=at)


class RevokeSessionInput(Input):
    session_id: Id


class CreateUploadInput(Input):
    """How many bytes there may be, the files service says."""

    name: FileName
    content_type: MediaType
    size: int
    checksum: Checksum | None = None
    access_level: AccessLevel = AccessLevel.PRIVATE


class UpdatePreferencesInput(Input):
    language: LanguageTag | None = None
    timezone: TimeZone | None = None
    theme: Theme | None = None
    email_notifications: bool | None = None


class CancelOperationInput(Input):
    id: Id


class RetryOperationInput(Input):
    id: Id
    idempotency_key: IdempotencyKey | None = None
    wait_seconds: WaitSeconds = 0


class PageInput(Input):
    first: First = 20
    after: Cursor | None = None


class OperationPageInput(PageInput):
    order_by: OperationOrder = OperationOrder.STARTED_AT_DESC


class StatisticsInput(Input):
    interval: StatisticsInterval = StatisticsInterval.DAY
    time_zone: TimeZone = "UTC"


class IdInput(Input):
    id: Id


class IdsInput(Input):
    ids: Annotated[tuple[Id, ...], Field(max_length=100)]


class FollowInput(Input):
    id: Id
    after: Cursor | None = None


def in_the_input(error: InvalidInput) -> InvalidInput:
    """What a service refuses, by the paths in the input of the mutation that it was given in."""
    fields = tuple(field.model_copy(update={"path": ("input", *field.path)}) for field in error.fields)
    return type(error)(fields[0].message if len(fields) == 1 else error.message, fields=fields)
