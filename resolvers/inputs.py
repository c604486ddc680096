"""What each mutation and field takes, beyond what its GraphQL type says; the rules are in ``contracts.validation``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import InvalidInput
from contracts.files import AccessLevel
from contracts.operation_records import OperationOrder, RecordFilter
from contracts.operation_statistics import StatisticsInterval
from contracts.operations import OperationKind, OperationStatus
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
    SearchText,
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


class FilterInput(Input):
    kinds: Annotated[frozenset[OperationKind], Field(max_length=100)] | None = None
    statuses: Annotated[frozenset[OperationStatus], Field(max_length=100)] | None = None

    except_kinds: Annotated[frozenset[OperationKind], Field(max_length=100)] | None = None
    started_after: datetime | None = None
    started_before: datetime | None = None
    started_by_ids: Annotated[frozenset[Id], Field(max_length=100)] | None = None
    target_ids: Annotated[frozenset[Id], Field(max_length=100)] | None = None
    search: SearchText | None = None

    def to_record_filter(self) -> RecordFilter:
        """Return the filter as the record of operations takes it."""
        return RecordFilter(
            kinds=_sorted(self.kinds),
            except_kinds=_sorted(self.except_kinds),
            statuses=_sorted(self.statuses),
            started_after=self.started_after,
            started_before=self.started_before,
            started_by_ids=_sorted(self.started_by_ids),
            target_ids=_sorted(self.target_ids),
            search=self.search,
        )


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


Word = TypeVar("Word", bound=str)


def _sorted(words: frozenset[Word] | None) -> tuple[Word, ...] | None:
    return None if words is None else tuple(sorted(words))
