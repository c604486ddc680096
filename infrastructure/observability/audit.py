"""The audit log: sign-ins, refusals, ended sessions and compensations, one log line per event, with ids only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum

import structlog

from contracts.errors import (
    DomainError,
    ErrorCode,
    InvalidMfaCode,
    QuotaExhausted,
    StorageQuotaExceeded,
    TooManyAttempts,
    UploadInProgress,
    UploadTooLarge,
)

log = structlog.get_logger("audit")


class AuditEvent(StrEnum):
    """Names of the audit events, which are the log events."""

    SIGN_IN = "audit.sign_in"
    SIGN_OUT = "audit.sign_out"
    REFUSED = "audit.refused"
    TENANT_SWITCHED = "audit.tenant_switched"
    SESSION_REVOKED = "audit.session_revoked"
    COMPENSATED = "audit.compensated"
    OPERATION_DELETED = "audit.operation_deleted"


class Refusal(StrEnum):
    """Why a request was refused: the field ``refusal`` of the log line, and the label ``kind`` of the metric."""

    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - it is not a password
    WRONG_CODE = "wrong_code"
    SIGN_IN_THROTTLE = "sign_in_throttle"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    """Too many sockets, streams or transfers at the same time."""
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    """The object does not exist, or the requester may not see it."""
    ORIGIN = "origin"
    BODY = "body"
    """The body of a request or upload is too large, arrives too slowly, or has a type that an HTML form can send."""
    STORAGE_QUOTA = "storage_quota"
    DOCUMENT = "document"
    """The GraphQL document is too large, too deep, too expensive, or not a trusted document."""


_BY_CLASS: tuple[tuple[type[DomainError], Refusal], ...] = (
    (InvalidMfaCode, Refusal.WRONG_CODE),
    (TooManyAttempts, Refusal.SIGN_IN_THROTTLE),
    (QuotaExhausted, Refusal.QUOTA),
    (UploadInProgress, Refusal.QUOTA),
    (StorageQuotaExceeded, Refusal.STORAGE_QUOTA),
    (UploadTooLarge, Refusal.BODY),
)
_BY_CODE = {
    ErrorCode.INVALID_CREDENTIALS: Refusal.WRONG_PASSWORD,
    ErrorCode.RATE_LIMITED: Refusal.RATE_LIMIT,
    ErrorCode.UNAUTHENTICATED: Refusal.UNAUTHENTICATED,
    ErrorCode.FORBIDDEN: Refusal.FORBIDDEN,
    ErrorCode.NOT_FOUND: Refusal.NOT_FOUND,
}

_observer: ContextVar[Callable[[str, int], None] | None] = ContextVar("refusal observer", default=None)


def record_audit_event(event: AuditEvent, **ids: str | int | None) -> None:
    """Write an audit event to the log; ``log_context`` adds the user and the client.

    The event of a step is written after the step has taken effect, so a step that is retried may write it twice.
    """
    log.info(event.value, **{name: id for name, id in ids.items() if id is not None})


def classify_refusal(error: DomainError) -> Refusal | None:
    """Return the kind of refusal that an error means; None if the error is not a refusal."""
    by_class = next((kind for type_, kind in _BY_CLASS if isinstance(error, type_)), None)
    return by_class or _BY_CODE.get(error.code)


def record_refusal(kind: Refusal, *, count: int = 1, **ids: str | None) -> None:
    """Write an audit event for a refusal, and count it in the metric.

    ``log_context`` adds the digests of the client and the account. The metric contains the kind only.

    Args:
        kind: Why the request was refused.
        count: Number of refusals that this event represents.
        ids: Further fields of the log line.
    """
    record_audit_event(AuditEvent.REFUSED, refusal=kind.value, count=count if count > 1 else None, **ids)
    observer = _observer.get()
    if observer is not None:
        observer(kind.value, count)


@contextmanager
def observe_refusals(observer: Callable[[str, int], None]) -> Iterator[None]:
    """Call the observer with the kind and the count of each refusal while the block runs."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)
