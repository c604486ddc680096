"""Types of the record of operations: an SQL projection of all operations, for lists, filters, counts and search.

Temporal is the source of truth for running operations. The record may lag behind Temporal; it is repaired from
Temporal, and it also contains operations that Temporal has deleted after its retention period.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, TypeAlias, TypeVar

from pydantic import AfterValidator, Field

from contracts.base import Contract
from contracts.operations import Operation, OperationKind, OperationStatus, Position
from contracts.validation import Id, SearchText

MAX_BATCH = 200
"""Maximum number of records in one write."""
MAX_PAGE = 100
"""Maximum number of records in one page."""
MAX_COUNT = 10_001
"""Counts are exact up to 10,000; this value means more than 10,000."""
MAX_SUBJECT_LENGTH = 320
"""The longest subject is an e-mail address (RFC 5321: 64 + 1 + 255 octets)."""


class OperationOrder(StrEnum):
    """The order of a list of operations."""

    STARTED_AT_DESC = "STARTED_AT_DESC"
    STARTED_AT_ASC = "STARTED_AT_ASC"
    CLOSED_AT_DESC = "CLOSED_AT_DESC"
    DURATION_DESC = "DURATION_DESC"


class Subject(Contract):
    """The object that an operation concerns, such as a file or a user.

    ``label``: text for display (an e-mail address, a file name, a tenant name); ``target_id``: the id of the object;
    ``is_private``: only the user who started the operation may see label and target.
    """

    label: str = Field(max_length=MAX_SUBJECT_LENGTH)
    target_id: str | None = Field(default=None, max_length=40)
    is_private: bool = False


class OperationRecord(Contract):
    """One operation in the record. A write without a subject keeps the stored subject.

    ``retry_of``: the id of the failed operation that this operation repeats.
    """

    operation: Operation
    subject: Subject | None = None
    retry_of: str | None = None

    def merged_with(self, other: OperationRecord | None) -> OperationRecord:
        """Return the newer of the two states, with the subject and the ``retry_of`` of either record."""
        if other is None:
            return self
        newest = max(other.operation, self.operation, key=lambda operation: operation.position.as_tuple())
        return OperationRecord(
            operation=newest,
            subject=self.subject or other.subject,
            retry_of=self.retry_of or other.retry_of,
        )


class OperationRecords(Contract):
    """A batch of records to write."""

    records: tuple[OperationRecord, ...] = Field(max_length=MAX_BATCH)


Text = TypeVar("Text", bound=str)


def _distinct(values: tuple[Text, ...]) -> tuple[Text, ...]:
    return tuple(sorted(set(values)))


Distinct = Annotated[tuple[Text, ...], AfterValidator(_distinct), Field(max_length=100)]
"""At most 100 distinct values, sorted, so that equal filters have equal cursors."""


class RecordFilter(Contract):
    """Conditions on records, all of which must be met; None is no condition, and an empty tuple matches no record.

    ``started_after`` is inclusive, ``started_before`` is exclusive. ``search`` is a part of the subject's label,
    compared case-insensitively.
    """

    kinds: Distinct[OperationKind] | None = None
    except_kinds: Distinct[OperationKind] | None = None
    statuses: Distinct[OperationStatus] | None = None
    started_after: datetime | None = None
    started_before: datetime | None = None
    started_by_ids: Distinct[Id] | None = None
    target_ids: Distinct[Id] | None = None
    search: SearchText | None = None

    def matches(self, operation: Operation) -> bool:
        """Return whether the operation meets the conditions that do not concern its subject."""
        started_at, status = operation.started_at, operation.state.status
        return (
            (self.kinds is None or operation.kind in self.kinds)
            and (self.except_kinds is None or operation.kind not in self.except_kinds)
            and (self.statuses is None or status in self.statuses)
            and (self.started_after is None or started_at >= self.started_after)
            and (self.started_before is None or started_at < self.started_before)
        )

    @property
    def concerns_subject(self) -> bool:
        """Whether a condition concerns the subject, which is in the record but not in the state of an operation."""
        return bool(self.search) or self.target_ids is not None

    def matches_subject(self, subject: Subject | None) -> bool:
        """Return whether the subject meets the conditions that concern subjects."""
        label, target_id = (subject.label, subject.target_id) if subject else ("", None)
        return (not self.search or self.search.casefold() in label.casefold()) and (
            self.target_ids is None or target_id in self.target_ids
        )


class RecordPosition(Contract):
    """A position in a list of records. ``key``: microseconds since 1970, or milliseconds for DURATION_DESC."""

    key: int
    id: str


class RecordPageRequest(Contract):
    """A request for a page of the caller's operations, or (``of_all_members``) of all members of the tenant."""

    of_all_members: bool = False
    filter: RecordFilter = RecordFilter()
    order: OperationOrder = OperationOrder.STARTED_AT_DESC
    first: int = Field(default=20, ge=0, le=MAX_PAGE)
    after: RecordPosition | None = None
    with_total: bool = False


class RecordPage(Contract):
    """A page of records. ``total``: None unless it was requested; 10,001 means more than 10,000."""

    records: tuple[OperationRecord, ...]
    positions: tuple[RecordPosition, ...]
    has_next: bool
    total: int | None = None


class RecordLookup(Contract):
    """The existing records of the requested ids. ``deleted``: those ids whose operations were deleted."""

    records: tuple[OperationRecord, ...]
    deleted: tuple[str, ...] = ()


Version: TypeAlias = str
"""A ``Position`` as text; texts compare as positions do."""


def version_of(position: Position) -> Version:
    """Return the position as a text of fixed length: of two states of an operation, the newer has the greater text."""
    run, revision, closed, repaired, attempt, permille = position.as_tuple()
    return f"{run:017d}.{revision:08d}.{closed:d}{repaired:d}.{attempt:08d}.{permille:04d}"


def revision_of(version: Version) -> int:
    """Return the revision of a version; -1 for the empty version, which is older than any other."""
    return int(version.split(".")[1]) if version else -1
