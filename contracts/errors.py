"""The tree of domain errors, which are shown to clients, and the record in which they are sent between processes.

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
│   ├── FileCorrupted            CONFLICT                DATA_INCONSISTENCY
│   └── StepAlreadyUndone        (a late attempt of a step that has been compensated)
├── RateLimited                  RATE_LIMITED            EXTERNAL_SERVICE_UNAVAILABLE
│   └── TooManyAttempts  QuotaExhausted
├── ServiceUnavailable           UPSTREAM_UNAVAILABLE    EXTERNAL_SERVICE_UNAVAILABLE
└── DeadlineExceeded             TIMEOUT                 TIMEOUT_EXCEEDED

A DomainError is final: it is not retried, and the client receives its code and message. Any other exception is a fault:
Temporal retries it, the gateway masks it as INTERNAL, and the log contains it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import ClassVar, Self

from contracts.base import Contract


class ErrorCode(StrEnum):
    """The error code that clients receive in ``extensions.code``."""

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
    """The reason of a CONFLICT or FORBIDDEN error, which clients receive in ``extensions.reason``."""

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
    """Why an operation failed, as clients receive it in the operation's failure."""

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
    """An invalid field of an input: its path from the input's root, and the reason in words for a user."""

    path: tuple[str, ...]
    message: str


class DomainError(Exception):
    """Base class of errors that are final and shown to the client. Raise a subclass, which names the reason.

    All classes have the same attributes, so that every error can be sent between processes unchanged.

    Args:
        message: The message for the user; ``default_message`` if it is None.
        fields: The invalid fields of the input.
        attempts_left: Number of attempts that the user has left.
        retry_after: Seconds after which the client may repeat the request.
        service: Name of the service that is unavailable.
        current_tenant_id: The tenant of the session.
    """

    code: ClassVar[ErrorCode]
    reason: ClassVar[ErrorReason | None] = None
    """Set for CONFLICT and FORBIDDEN."""
    operation_code: ClassVar[OperationErrorCode]
    default_message: ClassVar[str]
    retryable: ClassVar[bool] = False
    """Whether the same operation may succeed if it is started again unchanged."""
    user_recoverable: ClassVar[bool] = False
    """Whether the user can correct the cause, for instance by other input."""
    http_status: ClassVar[int] = 400
    """The HTTP status with which a service's endpoint responds."""

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
    def for_field(cls, *path: str) -> Self:
        """Return the error with its default message, for the input field at this path."""
        return cls(fields=(FieldError(path=path, message=cls.default_message),))


class InvalidInput(DomainError):
    """The input is invalid; ``fields`` lists the invalid fields."""

    code = ErrorCode.BAD_USER_INPUT
    operation_code = OperationErrorCode.VALIDATION_FAILED
    default_message = "The input is not valid."
    user_recoverable = True
    http_status = 422


class InvalidCursor(InvalidInput):
    """A cursor was not issued by this gateway, or for another list."""

    default_message = "The cursor is not valid."


class UploadTooLarge(InvalidInput):
    """An upload sends more bytes than the client declared."""

    default_message = "The upload has more bytes than declared."
    http_status = 413


class AddressRefused(InvalidInput):
    """The mail server rejects the recipient's address."""

    default_message = "The mail server does not accept e-mail for this address."


class StorageQuotaExceeded(InvalidInput):
    """The file does not fit into the tenant's storage quota."""

    default_message = "The file does not fit into the tenant's storage quota."


class NotSignedIn(DomainError):
    """The request has no valid session."""

    code = ErrorCode.UNAUTHENTICATED
    operation_code = OperationErrorCode.PERMISSION_DENIED
    default_message = "Sign in first."
    user_recoverable = True
    http_status = 401


class SessionEnded(NotSignedIn):
    """The session has expired or was revoked."""

    default_message = "The session has ended; sign in again."


class InvalidCredentials(DomainError):
    """The e-mail address or the password is wrong; the error does not reveal which."""

    code = ErrorCode.INVALID_CREDENTIALS
    operation_code = OperationErrorCode.INVALID_CREDENTIALS
    default_message = "The e-mail address or the password is wrong."
    user_recoverable = True
    http_status = 401


class InvalidMfaCode(InvalidCredentials):
    """The code of the second factor is wrong, or it was used before."""

    default_message = "The code is wrong or was used before."


class PermissionDenied(DomainError):
    """The user's role does not have the required permission."""

    code = ErrorCode.FORBIDDEN
    reason = ErrorReason.NOT_PERMITTED
    operation_code = OperationErrorCode.PERMISSION_DENIED
    default_message = "You have no permission for this."
    http_status = 403


class TenantAccessDenied(PermissionDenied):
    """The user is not a member of the tenant."""

    default_message = "You have no access to this tenant."


class RoleTooHigh(PermissionDenied):
    """A member may not grant a role, or change a member with a role, that is higher than their own."""

    reason = ErrorReason.ROLE_TOO_HIGH
    default_message = "This role is above your own."


class NotFound(DomainError):
    """The object does not exist, or the user may not see it."""

    code = ErrorCode.NOT_FOUND
    operation_code = OperationErrorCode.VALIDATION_FAILED
    default_message = "The object does not exist."
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
    """The request is valid but contradicts the current state of the data."""

    code = ErrorCode.CONFLICT
    reason = ErrorReason.OTHER
    operation_code = OperationErrorCode.VALIDATION_FAILED
    default_message = "The request conflicts with the current state of the data."
    user_recoverable = True
    http_status = 409


class WrongTenant(Conflict):
    """The client expects another tenant than that of the session, which is ``current_tenant_id``."""

    reason = ErrorReason.WRONG_TENANT
    default_message = "The session is in another tenant than the one that is displayed; reload."


class LastOwner(Conflict):
    """The last owner of a tenant cannot be removed or lose the role."""

    reason = ErrorReason.LAST_OWNER
    default_message = "A tenant needs an owner: make another member an owner first."


class AlreadyMember(Conflict):
    """The user to be added is a member of the tenant already."""

    reason = ErrorReason.ALREADY_MEMBER
    default_message = "This user is a member already."


class IdempotencyKeyReused(Conflict):
    """The idempotency key was used before with different input."""

    reason = ErrorReason.IDEMPOTENCY_KEY_REUSED
    default_message = "This idempotency key was used with other input."


class EmailTaken(Conflict):
    """Another account has this e-mail address."""

    default_message = "This e-mail address is in use."


class LoginNotWaiting(Conflict):
    """A code was submitted to a login that does not wait for a code."""

    reason = ErrorReason.NOT_WAITING
    default_message = "This login does not wait for a code."


class OperationNotRetryable(Conflict):
    """The operation cannot be retried: it has not failed, or it is a login."""

    reason = ErrorReason.NOT_RETRYABLE
    default_message = "Only a failed operation can be started again, and a login only by signing in."


class UploadCompleted(Conflict):
    """An operation turns, or has turned, this upload into a file."""

    default_message = "A file is already being created, or was created, from this upload."


class UploadInProgress(Conflict):
    """Another request is sending the bytes of this upload."""

    default_message = "The bytes of this upload are already being sent."
    retryable = True


class FileCorrupted(Conflict):
    """The stored bytes of a file do not match its checksum."""

    operation_code = OperationErrorCode.DATA_INCONSISTENCY
    default_message = "The stored bytes are not those that were uploaded."
    user_recoverable = False


class StepAlreadyUndone(Conflict):
    """A late attempt of a step arrives after the step was compensated; it must not take effect."""

    default_message = "This step was undone already."


class RateLimited(DomainError):
    """The client sends too many requests; ``retry_after`` says when to try again."""

    code = ErrorCode.RATE_LIMITED
    operation_code = OperationErrorCode.EXTERNAL_SERVICE_UNAVAILABLE
    default_message = "Too many requests; try again later."
    retryable = True
    http_status = 429


class TooManyAttempts(RateLimited):
    """Too many sign-in attempts for an account or from a network."""

    default_message = "Too many attempts to sign in; try again later."


class QuotaExhausted(RateLimited):
    """Too many sockets, streams or transfers are open at the same time."""

    default_message = "Too many are open at the same time; close some first."


class ServiceUnavailable(DomainError):
    """A service (``service``) or a system on which it depends is unavailable."""

    code = ErrorCode.UPSTREAM_UNAVAILABLE
    operation_code = OperationErrorCode.EXTERNAL_SERVICE_UNAVAILABLE
    default_message = "A service does not answer; try again."
    retryable = True
    http_status = 503


class DeadlineExceeded(DomainError):
    """A call did not complete within its time limit."""

    code = ErrorCode.TIMEOUT
    operation_code = OperationErrorCode.TIMEOUT_EXCEEDED
    default_message = "This took too long; try again."
    retryable = True
    http_status = 504


class ErrorRecord(Contract):
    """A serialized DomainError: the name of its class, and its attributes."""

    name: str
    message: str
    fields: tuple[FieldError, ...] = ()
    attempts_left: int | None = None
    retry_after: float | None = None
    service: str | None = None
    current_tenant_id: str | None = None


def all_errors(root: type[DomainError] = DomainError) -> Iterator[type[DomainError]]:
    """Yield all subclasses of ``root``, parents first."""
    for child in root.__subclasses__():
        yield child
        yield from all_errors(child)


def to_record(error: DomainError) -> ErrorRecord:
    """Serialize an error."""
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
    """Deserialize an error.

    Raises:
        LookupError: This release has no error class of this name; treat it as a fault.
    """
    kind = _BY_NAME[record.name]
    return kind(
        record.message,
        fields=record.fields,
        attempts_left=record.attempts_left,
        retry_after=record.retry_after,
        service=record.service,
        current_tenant_id=record.current_tenant_id,
    )


_BY_NAME = {kind.__name__: kind for kind in all_errors()}
