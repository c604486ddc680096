"""Types for operations: kinds, steps, states and results, and the memo and search attributes that contain them.

An operation is a workflow that a client starts and follows. The workflow writes its ``OperationState`` into its memo at
each change, so that a description, a history event or a row of a list contains the whole state. The kind, the user and
the tenants of an operation are search attributes, which contain ids only.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import Field, JsonValue

from contracts.auth import MfaChallenge
from contracts.base import Contract
from contracts.errors import FieldError, OperationErrorCode

MEMO_STATE = "operation_state"
"""Memo key of the ``OperationState``."""
MEMO_INPUT_DIGEST = "input_digest"
"""Memo key of the digest of the client's input. An idempotency key that is reused with another digest is a conflict."""
ATTRIBUTE_KIND = "AdxKind"
ATTRIBUTE_USER = "AdxUser"
ATTRIBUTE_TENANTS = "AdxTenants"
"""Search attributes of an operation: Keyword, Keyword, and KeywordList (the operation's tenant, then other tenants)."""


class OperationKind(StrEnum):
    """The kinds of operations; each kind is one workflow."""

    LOGIN = "LOGIN"
    TENANT_SWITCH = "TENANT_SWITCH"
    FILE_UPLOAD = "FILE_UPLOAD"
    FILE_PROCESSING = "FILE_PROCESSING"
    USER_ONBOARDING = "USER_ONBOARDING"


STEPS: dict[OperationKind, tuple[str, ...]] = {
    OperationKind.LOGIN: ("verify_credentials", "check_mfa", "create_session", "record_sign_in"),
    OperationKind.TENANT_SWITCH: (
        "check_access",
        "load_session",
        "set_tenant",
        "create_session",
        "load_tenant",
        "end_old_session",
    ),
    OperationKind.FILE_UPLOAD: (
        "validate_upload",
        "create_file_record",
        "store_file",
        "update_metadata",
        "set_permissions",
    ),
    OperationKind.FILE_PROCESSING: ("verify_checksum", "extract_metadata", "publish_metadata"),
    OperationKind.USER_ONBOARDING: (
        "create_user",
        "set_up_authentication",
        "assign_to_tenant",
        "create_workspace",
        "send_welcome_email",
    ),
}
"""The names of the steps of each kind in their order, as clients see them."""


class OperationStatus(StrEnum):
    """The status of an operation. WAITING: it waits for the user, for instance for a code."""

    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def is_closed(self) -> bool:
        """Whether the status is final."""
        return self in _CLOSED


_CLOSED = (OperationStatus.COMPLETED, OperationStatus.FAILED, OperationStatus.CANCELLED, OperationStatus.TIMED_OUT)


class StepStatus(StrEnum):
    """The status of a step. COMPENSATION_FAILED: the step completed, and its undo failed."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    COMPLETED = "COMPLETED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    COMPENSATED = "COMPENSATED"
    COMPENSATION_FAILED = "COMPENSATION_FAILED"


class Step(Contract):
    """One step of an operation as clients see it.

    ``attempt``: 0 before the step begins; ``fraction``: the completed part, 0 to 1, None if it is not reported;
    ``detail``: data of the step that depends on the kind of operation.
    """

    name: str
    status: StepStatus = StepStatus.PENDING
    attempt: int = 0
    started_at: datetime | None = None
    completed_at: datetime | None = None
    fraction: float | None = None
    last_error: str | None = None
    next_attempt_at: datetime | None = None
    detail: JsonValue = None


class StepHeartbeat(Contract):
    """The detail of an activity's heartbeat: the completed part of the step, 0 to 1. Subclasses add a resume point."""

    fraction: float = 0.0


class OperationFailure(Contract):
    """Why an operation did not complete. ``message``: for users; ``compensated``: all completed steps were undone."""

    code: OperationErrorCode
    message: str
    step: str | None = None
    retryable: bool = False
    user_recoverable: bool = False
    compensated: bool = False
    fields: tuple[FieldError, ...] = ()


class SwitchedTenants(Contract):
    """The previous and the new tenant of a tenant switch."""

    from_tenant_id: str
    to_tenant_id: str


class TenantSwitched(Contract):
    """The result of a tenant switch."""

    kind: Literal["TENANT_SWITCH"] = "TENANT_SWITCH"
    tenant_id: str
    user_id: str
    permissions: tuple[str, ...]


class LoggedIn(Contract):
    """The result of a login."""

    kind: Literal["LOGIN"] = "LOGIN"
    user_id: str
    tenant_id: str


class FileUploaded(Contract):
    """The result of a file upload."""

    kind: Literal["FILE_UPLOAD"] = "FILE_UPLOAD"
    file_id: str


class FileProcessed(Contract):
    """The result of processing a file."""

    kind: Literal["FILE_PROCESSING"] = "FILE_PROCESSING"
    file_id: str


class UserOnboarded(Contract):
    """The result of onboarding a user."""

    kind: Literal["USER_ONBOARDING"] = "USER_ONBOARDING"
    user_id: str
    workspace_id: str
    welcome_email_sent: bool


OperationResult = Annotated[
    TenantSwitched | LoggedIn | FileUploaded | FileProcessed | UserOnboarded, Field(discriminator="kind")
]


class OperationState(Contract):
    """The state that a workflow writes into its memo; less than 2 KiB. ``revision`` increases with each write."""

    revision: int = 0
    started_at: datetime
    """When the client started the operation. A repeated start with the same idempotency key returns the same time."""
    status: OperationStatus = OperationStatus.RUNNING
    steps: tuple[Step, ...]
    started_by: str | None = None
    """The id of the user; None until a login has identified the user."""
    switch: SwitchedTenants | None = None
    challenge: MfaChallenge | None = None
    result: OperationResult | None = None
    failure: OperationFailure | None = None

    def to_memo(self) -> dict[str, JsonValue]:
        """Return the state as JSON without null values, so that it stays below the memo's limit of 2 KiB."""
        return self.model_dump(mode="json", exclude_none=True)

    @classmethod
    def first(
        cls,
        kind: OperationKind,
        started_at: datetime,
        *,
        started_by: str | None = None,
        switch: SwitchedTenants | None = None,
    ) -> OperationState:
        """Return the initial state, in which every step is pending, from before the workflow's first task."""
        steps = tuple(Step(name=name) for name in STEPS[kind])
        return cls(started_at=started_at, steps=steps, started_by=started_by, switch=switch)


class Position(Contract):
    """The position of a state among the states of an operation: later states have greater positions (``as_tuple``).

    The most significant field is ``run``: 0 for the first run, and for later runs the time at which Temporal started
    them, in microseconds since 1970; after a reset, a new run continues with an earlier revision. ``revision`` is that
    of the workflow's state. Within one revision these change: the ``attempt`` of the current step, its completed part
    in thousandths (``permille``), then ``closed``, and ``repaired`` after a repair.
    """

    run: int = 0
    revision: int
    closed: bool = False
    repaired: bool = False
    attempt: int = 0
    permille: int = 0

    def as_tuple(self) -> tuple[int, int, bool, bool, int, int]:
        """Return the fields in the order of their significance, for comparison."""
        return (self.run, self.revision, self.closed, self.repaired, self.attempt, self.permille)


class Operation(Contract):
    """An operation: the state that its workflow has written, and its data in Temporal (ids, owner, tenants, end)."""

    id: str
    kind: OperationKind
    user_id: str
    """The owner, for authorization. ``state.started_by`` is the user that clients see."""
    tenant_ids: tuple[str, ...]
    """The tenant of the operation (a login has none at first), then other tenants that the operation concerns."""
    state: OperationState
    closed_at: datetime | None = None
    position: Position
    run_id: str = ""
    """The run of the workflow to which the state belongs; empty for an operation that has just been started."""

    @property
    def is_closed(self) -> bool:
        """Whether the workflow has closed."""
        return self.closed_at is not None

    @property
    def target_id(self) -> str | None:
        """The id of the object that the operation concerns, if the state contains it. The record has it earlier."""
        match self.state.result:
            case FileUploaded(file_id=file_id) | FileProcessed(file_id=file_id):
                return file_id
            case UserOnboarded(user_id=user_id) | LoggedIn(user_id=user_id):
                return user_id
            case TenantSwitched(tenant_id=tenant_id):
                return tenant_id
        return self.state.switch.to_tenant_id if self.state.switch else None

    @property
    def needs_repair(self) -> bool:
        """Whether the operation has failed and not all of its completed steps were undone."""
        failure = self.state.failure
        return self.is_closed and failure is not None and not failure.compensated

    @property
    def started_at(self) -> datetime:
        """When the client started the operation."""
        return self.state.started_at


def operation_id(secret: bytes, kind: OperationKind, *, tenant_id: str, user_id: str, key: str | None) -> str:
    """Return the workflow id of an operation: the kind, a hyphen, and 32 hexadecimal digits that cannot be guessed.

    With an idempotency key, the same kind, tenant, user and key always result in the same id (HMAC-SHA256, RFC 2104).
    The id does not reveal tenant or user. Without a key the id is random.
    """
    if key is None:
        return f"{_slug(kind)}-{uuid4().hex}"
    message = "\0".join((kind.value, tenant_id, user_id, key)).encode()
    return f"{_slug(kind)}-{hmac.new(secret, message, hashlib.sha256).hexdigest()[:32]}"


def kind_of(operation_id: str) -> OperationKind | None:
    """Return the kind of operation that a workflow id contains; None if it is not the id of an operation."""
    slug, _, digest = operation_id.rpartition("-")
    if len(digest) != 32 or not all(digit in "0123456789abcdef" for digit in digest):
        return None
    return _KIND_BY_SLUG.get(slug)


def _slug(kind: OperationKind) -> str:
    return kind.value.lower().replace("_", "-")


_KIND_BY_SLUG = {_slug(kind): kind for kind in OperationKind}
