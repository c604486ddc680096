"""The record of operations: a projection in SQL of all operations, for lists, counts and the time after retention.

Temporal is the source of truth for running operations. The record may lag behind it, and it is repaired from it.
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
"""Records that one write carries."""
MAX_PAGE = 100
MAX_COUNT = 10_001
"""A count beyond 10,000 is not exact: this value means more."""
MAX_SUBJECT_LENGTH = 320
"""The longest subject is an e-mail address (RFC 5321: 64 + 1 + 255 octets)."""


class OperationOrder(StrEnum):
    STARTED_AT_DESC = "STARTED_AT_DESC"
    STARTED_AT_ASC = "STARTED_AT_ASC"
    CLOSED_AT_DESC = "CLOSED_AT_DESC"
    DURATION_DESC = "DURATION_DESC"


class Subject(Contract):
    """The object that an operation concerns.

    ``label`` is plain text for people: an e-mail address, a file name, a tenant name. ``is_private`` hides the label
    and the target from everyone except the user who started the operation.
    """

    label: str = Field(max_length=MAX_SUBJECT_LENGTH)
    target_id: str | None = Field(default=None, max_length=40)
    is_private: bool = False


class OperationRecord(Contract):
    """One operation as the record holds it. A write without a subject keeps the subject that is stored."""

    operation: Operation
    subject: Subject | None = None
    retry_of: str | None = None

    def merged_with(self, other: OperationRecord | None) -> OperationRecord:
        """The newer state of the two, with the subject and the predecessor of whichever has one."""
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


Word = TypeVar("Word", bound=str)


def _distinct(words: tuple[Word, ...]) -> tuple[Word, ...]:
    return tuple(sorted(set(words)))


Distinct = Annotated[tuple[Word, ...], AfterValidator(_distinct), Field(max_length=100)]
"""At most 100 distinct values, sorted, so that equal filters have equal cursors."""


class RecordFilter(Contract):
    """Conditions that a record must meet; None sets no condition, and an empty tuple matches nothing.

    ``started_after`` is inclusive and ``started_before`` exclusive. ``search`` is a part of the subject's label,
    compared without regard to case.
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
        """Whether the operation meets the conditions that do not concern its subject."""
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
        """Whether there is a condition on the subject, which the state of an operation does not contain."""
        return bool(self.search) or self.target_ids is not None

    def matches_subject(self, subject: Subject | None) -> bool:
        """Whether the subject meets the conditions that concern it."""
        label, target_id = (subject.label, subject.target_id) if subject else ("", None)
        return (not self.search or self.search.casefold() in label.casefold()) and (
            self.target_ids is None or target_id in self.target_ids
        )


class RecordPosition(Contract):
    """A position in a list of records. ``key``: microseconds since 1970 or milliseconds of duration, by the order."""

    key: int
    id: str


class RecordPageRequest(Contract):
    """A page of the operations of the caller, or of all members of the caller's tenant (``of_all_members``)."""

    of_all_members: bool = False
    filter: RecordFilter = RecordFilter()
    order: OperationOrder = OperationOrder.STARTED_AT_DESC
    first: int = Field(default=20, ge=0, le=MAX_PAGE)
    after: RecordPosition | None = None
    with_total: bool = False


class RecordPage(Contract):
    """``total`` is None unless it was asked for; 10,001 means more than 10,000."""

    records: tuple[OperationRecord, ...]
    positions: tuple[RecordPosition, ...]
    has_next: bool
    total: int | None = None


class RecordLookup(Contract):
    """The record of each id that was asked for, as far as it exists; ``deleted`` names those that were deleted."""

    records: tuple[OperationRecord, ...]
    deleted: tuple[str, ...] = ()


Version: TypeAlias = str


def version_of(position: Position) -> Version:
    """A text of fixed length; of two states of one operation, the newer one has the greater text."""
    run, revision, closed, repaired, attempt, permille = position.as_tuple()
    return f"{run:017d}.{revision:08d}.{closed:d}{repaired:d}.{attempt:08d}.{permille:04d}"


def revision_of(version: Version) -> int:
    """The revision in a version's text; -1 in the empty version, which is older than any other."""
    return int(version.split(".")[1]) if version else -1
