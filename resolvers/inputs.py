"""Pydantic models that validate the arguments of mutations and fields; the rules are in ``contracts.validation``."""

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
    """Base class of validated inputs. A value that the client omits or sends as null has the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def check(cls, arguments: Mapping[str, object], *, at: tuple[str, ...] = ()) -> Self:
        """Return the validated input.

        Args:
            arguments: the values that the client sent, by the name of the argument or input field.
            at: the path of the input in the request; the paths of errors begin with it.

        Raises:
            InvalidInput: at least one value is not valid; the error names the path of each.
        """
        return validate(cls, {name: value for name, value in arguments.items() if value is not None}, at=at)


class RevokeSessionInput(Input):
    """Input of the mutation revokeSession."""

    session_id: Id


class CreateUploadInput(Input):
    """Input of the mutation createUpload. The files service checks ``size`` (in bytes) against its limits."""

    name: FileName
    content_type: MediaType
    size: int
    checksum: Checksum | None = None
    access_level: AccessLevel = AccessLevel.PRIVATE


class UpdatePreferencesInput(Input):
    """Input of the mutation updatePreferences; None leaves a preference unchanged."""

    language: LanguageTag | None = None
    timezone: TimeZone | None = None
    theme: Theme | None = None
    email_notifications: bool | None = None


class CancelOperationInput(Input):
    """Input of the mutation cancelOperation."""

    id: Id


class RetryOperationInput(Input):
    """Input of the mutation retryOperation."""

    id: Id
    idempotency_key: IdempotencyKey | None = None
    wait_seconds: WaitSeconds = 0


class PageInput(Input):
    """Arguments of a connection: page size, and the cursor of the last item of the previous page."""

    first: First = 20
    after: Cursor | None = None


class OperationPageInput(PageInput):
    """Arguments of a connection of operations."""

    order_by: OperationOrder = OperationOrder.STARTED_AT_DESC


class StatisticsInput(Input):
    """Arguments of the field operationStatistics: bucket size, and the time zone in which days begin."""

    interval: StatisticsInterval = StatisticsInterval.DAY
    time_zone: TimeZone = "UTC"


class IdInput(Input):
    """Argument of the queries node and operation."""

    id: Id


class IdsInput(Input):
    """Argument of the query nodes: at most 100 ids."""

    ids: Annotated[tuple[Id, ...], Field(max_length=100)]


class FollowInput(Input):
    """Arguments of the subscription operation: its id, and the cursor of the last state that the client received."""

    id: Id
    after: Cursor | None = None


def prefix_input_path(error: InvalidInput) -> InvalidInput:
    """Return the error of a service with ``input`` before each field's path, as in the mutation's arguments."""
    fields = tuple(field.model_copy(update={"path": ("input", *field.path)}) for field in error.fields)
    return type(error)(fields[0].message if len(fields) == 1 else error.message, fields=fields)
