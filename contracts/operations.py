"""Operations: their kinds and states, and the memo and search attributes that carry them on a workflow.

Temporal is the truth: the workflow writes its ``OperationState`` into its memo at each change, so that one describe,
one history event or one row of a list holds the whole state. Who, where and what kind are search attributes: ids only.
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
"""Search attributes: Keyword, Keyword and KeywordList (the tenant it belongs to, then any other it leads to)."""


class OperationKind(StrEnum):
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
"""The steps of each kind, in order, under the names that clients see."""


class OperationStatus(StrEnum):
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def is_closed(self) -> bool:
        return self in _CLOSED


_CLOSED = (OperationStatus.COMPLETED, OperationStatus.FAILED, OperationStatus.CANCELLED, OperationStatus.TIMED_OUT)


class StepStatus(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    COMPLETED = "COMPLETED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    COMPENSATED = "COMPENSATED"
    COMPENSATION_FAILED = "COMPENSATION_FAILED"


class Step(Contract):
    """One step as clients see it. ``attempt``: 0 before it begins; ``fraction``: 0 to 1, where the step reports it."""

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
    """The one detail of an activity's heartbeat: the part of the step that is done, 0 to 1. A subclass may say more."""

    fraction: float = 0.0


class OperationFailure(Contract):
    """Why an operation did not complete, in words for a user."""

    code: OperationErrorCode
    message: str
    step: str | None = None
    retryable: bool = False
    user_recoverable: bool = False
    compensated: bool = False
    fields: tuple[FieldError, ...] = ()


class SwitchedTenants(Contract):
    """Between which tenants a switch goes: known from its start."""

    from_tenant_id: str
    to_tenant_id: str


class TenantSwitched(Contract):
    kind: Literal["TENANT_SWITCH"] = "TENANT_SWITCH"
    tenant_id: str
    user_id: str
    permissions: tuple[str, ...]


class LoggedIn(Contract):
    kind: Literal["LOGIN"] = "LOGIN"
    user_id: str
    tenant_id: str


class FileUploaded(Contract):
    kind: Literal["FILE_UPLOAD"] = "FILE_UPLOAD"
    file_id: str


class FileProcessed(Contract):
    kind: Literal["FILE_PROCESSING"] = "FILE_PROCESSING"
    file_id: str


class UserOnboarded(Contract):
    kind: Literal["USER_ONBOARDING"] = "USER_ONBOARDING"
    user_id: str
    workspace_id: str
    welcome_email_sent: bool


OperationResult = Annotated[
    TenantSwitched | LoggedIn | FileUploaded | FileProcessed | UserOnboarded, Field(discriminator="kind")
]


class OperationState(Contract):
    """What the workflow knows and writes into its memo, under 2 KiB. ``revision`` grows with each writing."""

    revision: int = 0
    started_at: datetime
    """When the client started it: the same in every answer, for a repeated start reads it here."""
    status: OperationStatus = OperationStatus.RUNNING
    steps: tuple[Step, ...]
    started_by: str | None = None
    """The user, once identified."""
    switch: SwitchedTenants | None = None
    challenge: MfaChallenge | None = None
    result: OperationResult | None = None
    failure: OperationFailure | None = None

    def to_memo(self) -> dict[str, JsonValue]:
        """Plain JSON without nulls, so that six steps stay well under the memo's 2 KiB."""
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
        """The state before the workflow's first task: every step pending."""
        steps = tuple(Step(name=name) for name in STEPS[kind])
        return cls(started_at=started_at, steps=steps, started_by=started_by, switch=switch)


class Position(Contract):
    """Where a state stands in an operation's life; later states have greater positions, compared field by field.

    The run comes first: after a reset another run goes on with the workflow id, from an earlier revision. ``run`` is 0
    for the first run, and for a later one the time at which Temporal started it, in microseconds since 1970. Then comes
    the workflow's own revision. Within one revision only Temporal itself moves: tries of the step under
    way, the part done of it in thousandths, and at last the close. A repair follows the close.
    """

    run: int = 0
    revision: int
    closed: bool = False
    repaired: bool = False
    attempt: int = 0
    permille: int = 0

    def as_tuple(self) -> tuple[int, int, bool, bool, int, int]:
        return (self.run, self.revision, self.closed, self.repaired, self.attempt, self.permille)


class Operation(Contract):
    """An operation as it stands: its workflow's state joined with what Temporal knows. What resolvers return."""

    id: str
    kind: OperationKind
    user_id: str
    """Whose it is; for authorisation. ``state.started_by`` is what may be shown."""
    tenant_ids: tuple[str, ...]
    """First the tenant it belongs to (none yet: a login), then any other that it leads to."""
    state: OperationState
    closed_at: datetime | None = None
    position: Position
    run_id: str = ""
    """The run of the workflow that this state is of; empty where it has only just been started."""

    @property
    def is_closed(self) -> bool:
        return self.closed_at is not None

    @property
    def target_id(self) -> str | None:
        """The id of the object that it concerns, if its state has it; the record may have it earlier."""
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
        """Whether it ended without undoing all that it had done."""
        failure = self.state.failure
        return self.is_closed and failure is not None and not failure.compensated

    @property
    def started_at(self) -> datetime:
        return self.state.started_at


def operation_id(secret: bytes, kind: OperationKind, *, tenant_id: str, user_id: str, key: str | None) -> str:
    """The workflow id: the kind in clear, then 32 hex digits that nobody can guess and that tell of nobody.

    With a key the same four give the same id for ever (HMAC-SHA256, RFC 2104); without one the id is random.
    """
    if key is None:
        return f"{_slug(kind)}-{uuid4().hex}"
    message = "\0".join((kind.value, tenant_id, user_id, key)).encode()
    return f"{_slug(kind)}-{hmac.new(secret, message, hashlib.sha256).hexdigest()[:32]}"


def kind_of(operation_id: str) -> OperationKind | None:
    """The kind that a workflow id names; None where it is not one of ours."""
    slug, _, digest = operation_id.rpartition("-")
    if len(digest) != 32 or not all(digit in "0123456789abcdef" for digit in digest):
        return None
    return _KIND_BY_SLUG.get(slug)


def _slug(kind: OperationKind) -> str:
    return kind.value.lower().replace("_", "-")


_KIND_BY_SLUG = {_slug(kind): kind for kind in OperationKind}
