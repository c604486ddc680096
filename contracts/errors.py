"""Every error that is an answer, in one tree, and the record in which one crosses a process border.

DomainError                      code                    operation code
├── InvalidInput                 BAD_USER_INPUT          VALIDATION_FAILED
│   └── InvalidCursor  UploadTooLarge  AddressRefused  StorageQuotaExceeded
├── NotSignedIn                  UNAUTHENTICATED         PERMISSION_DENIED
│   └── SessionEnded
├── InvalidCredentials           INVALID_CREDENTIALS     INVALID_CREDENTIALS
│   └── InvalidMfaCode
├── PermissionDenied             FORBIDDEN               PERMISSION_DENIED
│   └── TenantAccessDenied  RoleTooHigh
├── NotFound                     NOT_FOUND               VALIDATION_FAILED
│   ├── UserNotFound  TenantNotFound  FileNotFound  UploadNotFound  WorkspaceNotFound
│   └── SessionNotFound  OperationNotFound
├── Conflict                     CONFLICT                VALIDATION_FAILED
│   ├── WrongTenant  LastOwner  AlreadyMember
│   ├── IdempotencyKeyReused  EmailTaken  OperationNotRetryable  LoginNotWaiting  UploadCompleted  UploadInProgress
│   ├── BytesDamaged             CONFLICT                DATA_INCONSISTENCY
│   └── EffectUndone             (a late try of a step that was undone meanwhile)
├── RateLimited                  RATE_LIMITED            EXTERNAL_SERVICE_UNAVAILABLE
│   └── TooManyAttempts  QuotaExhausted
├── ServiceUnavailable           UPSTREAM_UNAVAILABLE    EXTERNAL_SERVICE_UNAVAILABLE
└── DeadlineExceeded             TIMEOUT                 TIMEOUT_EXCEEDED

A DomainError is final, typed and shown to the client. Whatever else is raised is trouble: it rises, Temporal retries
it, the edge hides it and the log keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import ClassVar, Self

from contracts.base import Contract


class ErrorCode(StrEnum):
    """What clients read in ``extensions.code``."""

    BAD_USER_INPUT = "BAD_USER_INPUT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    INVALID_CREDENTIALS = "INVALID_CREDENTIALS"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    RATE_LIMITED = "RATE_LIMITED"
    UPSTREAM_UNAVAILABLE = "UPSTREAM_UNAVAILABLE"
    TIMEOUT = "TIMEOUT"
    INTERNAL = "INTERNAL"


class ErrorReason(StrEnum):
    """What clients read in ``extensions.reason`` of CONFLICT and FORBIDDEN."""

    MFA_ENROLLMENT_REQUIRED = "MFA_ENROLLMENT_REQUIRED"
    WRONG_TENANT = "WRONG_TENANT"
    WRONG_ACCOUNT = "WRONG_ACCOUNT"
    NOT_PERMITTED = "NOT_PERMITTED"
    ROLE_TOO_HIGH = "ROLE_TOO_HIGH"
    LAST_OWNER = "LAST_OWNER"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    NAME_TAKEN = "NAME_TAKEN"
    ALREADY_MEMBER = "ALREADY_MEMBER"
    NOT_EMPTY = "NOT_EMPTY"
    NOT_RETRYABLE = "NOT_RETRYABLE"
    NOT_WAITING = "NOT_WAITING"
    TENANT_FULL = "TENANT_FULL"
    NO_ROOM = "NO_ROOM"
    OTHER = "OTHER"


class OperationErrorCode(StrEnum):
    """Why an operation did not complete."""

    ACTIVITY_FAILED = "ACTIVITY_FAILED"
    COMPENSATION_FAILED = "COMPENSATION_FAILED"
    TIMEOUT_EXCEEDED = "TIMEOUT_EXCEEDED"
    VALIDATION_FAILED = "VALIDATION_FAILED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    INVALID_CREDENTIALS = "INVALID_CREDENTIALS"
    TENANT_ISOLATION_VIOLATION = "TENANT_ISOLATION_VIOLATION"
    EXTERNAL_SERVICE_UNAVAILABLE = "EXTERNAL_SERVICE_UNAVAILABLE"
    DATA_INCONSISTENCY = "DATA_INCONSISTENCY"
    CANCELLED = "CANCELLED"


class FieldError(Contract):
    """One field of an input that is wrong: its path from the input's root, and why, in words for a user."""

    path: tuple[str, ...]
    message: str


class DomainError(Exception):
    """An answer: final, typed and fit to be shown. Raise a subclass that names the fact.

    The facts beside the message are the same few for the whole tree, so that any error crosses any border unchanged:
    ``fields`` (which input is wrong), ``attempts_left`` (tries), ``retry_after`` (seconds), ``service`` (who),
    ``current_tenant_id`` (the tenant that the session is in).
    """

    code: ClassVar[ErrorCode]
    reason: ClassVar[ErrorReason | None] = None
    """Set for CONFLICT and FORBIDDEN."""
    operation_code: ClassVar[OperationErrorCode]
    default_message: ClassVar[str]
    retryable: ClassVar[bool] = False
    """Starting the same again unchanged may succeed."""
    user_recoverable: ClassVar[bool] = False
    """The user can put it right, by other input for instance."""
    http_status: ClassVar[int] = 400
    """What a service's endpoint answers with."""

    def __init__(
        self,
        message: str | None = None,
        *,
        fields: tuple[FieldError, ...] = (),
        attempts_left: int | None = None,
        retry_after: float | None = None,
        service: str | None = None,
        current_tenant_id: str | None = None,
    ) -> None:
        self.message = message or self.default_message
        self.fields = fields
        self.attempts_left = attempts_left
        self.retry_after = retry_after
        self.service = service
        self.current_tenant_id = current_tenant_id
        super().__init__(self.message)

    @classmethod
    def at(cls, *path: str) -> Self:
        """The default message, about the field of that path."""
        return cls(fields=(FieldError(path=path, message=cls.default_message),))


class InvalidInput(DomainError):
    code = ErrorCode.BAD_USER_INPUT
    operation_code = OperationErrorCode.VALIDATION_FAILED
    default_message = "The input is not valid."
    user_recoverable = True
    http_status = 422


class InvalidCursor(InvalidInput):
    default_message = "The cursor is not one of ours."


class UploadTooLarge(InvalidInput):
    default_message = "More bytes than were announced."
    http_status = 413


class AddressRefused(InvalidInput):
    default_message = "The mail server does not take e-mail for this address."


class StorageQuotaExceeded(InvalidInput):
    default_message = "There is no room for this file: the tenant stores as much as it may."


class NotSignedIn(DomainError):
    code = ErrorCode.UNAUTHENTICATED
    operation_code = OperationErrorCode.PERMISSION_DENIED
    default_message = "Sign in first."
    user_recoverable = True
    http_status = 401


class SessionEnded(NotSignedIn):
    default_message = "The session has ended; sign in again."


class InvalidCredentials(DomainError):
    code = ErrorCode.INVALID_CREDENTIALS
    operation_code = OperationErrorCode.INVALID_CREDENTIALS
    default_message = "The e-mail address or the password is wrong."
    user_recoverable = True
    http_status = 401


class InvalidMfaCode(InvalidCredentials):
    default_message = "The code is wrong or was used before."


class PermissionDenied(DomainError):
    code = ErrorCode.FORBIDDEN
    reason = ErrorReason.NOT_PERMITTED
    operation_code = OperationErrorCode.PERMISSION_DENIED
    default_message = "You have no permission for this."
    http_status = 403


class TenantAccessDenied(PermissionDenied):
    default_message = "You have no access to this tenant."


class RoleTooHigh(PermissionDenied):
    reason = ErrorReason.ROLE_TOO_HIGH
    default_message = "This role is above your own."


class NotFound(DomainError):
    code = ErrorCode.NOT_FOUND
    operation_code = OperationErrorCode.VALIDATION_FAILED
    default_message = "There is no such thing."
    user_recoverable = True
    http_status = 404


class UserNotFound(NotFound):
    default_message = "There is no such user."


class TenantNotFound(NotFound):
    default_message = "There is no such tenant."


class FileNotFound(NotFound):
    default_message = "There is no such file."


class UploadNotFound(NotFound):
    default_message = "There is no such upload."


class WorkspaceNotFound(NotFound):
    default_message = "There is no such workspace."


class SessionNotFound(NotFound):
    default_message = "There is no such session."


class OperationNotFound(NotFound):
    default_message = "There is no such operation."


class Conflict(DomainError):
    code = ErrorCode.CONFLICT
    reason = ErrorReason.OTHER
    operation_code = OperationErrorCode.VALIDATION_FAILED
    default_message = "This contradicts what is there already."
    user_recoverable = True
    http_status = 409


class WrongTenant(Conflict):
    reason = ErrorReason.WRONG_TENANT
    default_message = "The session is in another tenant than the one that is displayed; reload."


class LastOwner(Conflict):
    reason = ErrorReason.LAST_OWNER
    default_message = "A tenant needs an owner: make another member an owner first."


class AlreadyMember(Conflict):
    reason = ErrorReason.ALREADY_MEMBER
    default_message = "This user is a member already."


class IdempotencyKeyReused(Conflict):
    reason = ErrorReason.IDEMPOTENCY_KEY_REUSED
    default_message = "This idempotency key was used with other input."


class EmailTaken(Conflict):
    default_message = "This e-mail address is in use."


class LoginNotWaiting(Conflict):
    reason = ErrorReason.NOT_WAITING
    default_message = "This login does not wait for a code."


class OperationNotRetryable(Conflict):
    reason = ErrorReason.NOT_RETRYABLE
    default_message = "Only a failed operation can be started again, and a login only by signing in."


class UploadCompleted(Conflict):
    default_message = "A file is being made, or was made, of this upload already."


class UploadInProgress(Conflict):
    default_message = "The bytes of this upload are being sent already."
    retryable = True


class FileCorrupted(Conflict):
    operation_code = OperationErrorCode.DATA_INCONSISTENCY
    default_message = "The stored bytes are not those that were uploaded."
    user_recoverable = False


class StepAlreadyUndone(Conflict):
    default_message = "This step was undone already."


class RateLimited(DomainError):
    code = ErrorCode.RATE_LIMITED
    operation_code = OperationErrorCode.EXTERNAL_SERVICE_UNAVAILABLE
    default_message = "Too many requests; try again later."
    retryable = True
    http_status = 429


class TooManyAttempts(RateLimited):
    default_message = "Too many attempts to sign in; try again later."


class QuotaExhausted(RateLimited):
    default_message = "Too many open at once; close some first."


class ServiceUnavailable(DomainError):
    code = ErrorCode.UPSTREAM_UNAVAILABLE
    operation_code = OperationErrorCode.EXTERNAL_SERVICE_UNAVAILABLE
    default_message = "A service does not answer; try again."
    retryable = True
    http_status = 503


class DeadlineExceeded(DomainError):
    code = ErrorCode.TIMEOUT
    operation_code = OperationErrorCode.TIMEOUT_EXCEEDED
    default_message = "This took too long; try again."
    retryable = True
    http_status = 504


class ErrorRecord(Contract):
    """A DomainError on its way over a border: its class by name, and its facts."""

    name: str
    message: str
    fields: tuple[FieldError, ...] = ()
    attempts_left: int | None = None
    retry_after: float | None = None
    service: str | None = None
    current_tenant_id: str | None = None


def every_error(root: type[DomainError] = DomainError) -> Iterator[type[DomainError]]:
    """All classes of the tree below ``root``, parents first."""
    for child in root.__subclasses__():
        yield child
        yield from every_error(child)


def to_record(error: DomainError) -> ErrorRecord:
    return ErrorRecord(
        name=type(error).__name__,
        message=error.message,
        fields=error.fields,
        attempts_left=error.attempts_left,
        retry_after=error.retry_after,
        service=error.service,
        current_tenant_id=error.current_tenant_id,
    )


def from_record(record: ErrorRecord) -> DomainError:
    """The error again. A name that this release does not know raises LookupError: it is trouble, not an answer."""
    kind = _BY_NAME[record.name]
    return kind(
        record.message,
        fields=record.fields,
        attempts_left=record.attempts_left,
        retry_after=record.retry_after,
        service=record.service,
        current_tenant_id=record.current_tenant_id,
    )


_BY_NAME = {kind.__name__: kind for kind in every_error()}
