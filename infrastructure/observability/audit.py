"""Who signed in, who was refused what, which sessions ended and what was undone: a line each, with ids only."""

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


class Audit(StrEnum):
    SIGN_IN = "audit.sign_in"
    SIGN_OUT = "audit.sign_out"
    REFUSED = "audit.refused"
    TENANT_SWITCHED = "audit.tenant_switched"
    SESSION_REVOKED = "audit.session_revoked"
    COMPENSATED = "audit.compensated"
    OPERATION_DELETED = "audit.operation_deleted"


class Refusal(StrEnum):
    """What was refused: ``refusal`` of the line, and ``kind`` of the metric."""

    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - it is no password
    WRONG_CODE = "wrong_code"
    SIGN_IN_THROTTLE = "sign_in_throttle"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    """Too many at a time: sockets, streams, transfers."""
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    """It does not exist, or exists where its requester may not see it."""
    ORIGIN = "origin"
    BODY = "body"
    """Of a request or an upload: too large, too slow, or one that a form could send."""
    STORAGE_QUOTA = "storage_quota"
    DOCUMENT = "document"
    """It is too large, too deep, too expensive, or not one of the trusted documents."""


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


def audit(event: Audit, **ids: str | int | None) -> None:
    """Write an audit line; ``log_context`` adds the user and the client on whose behalf it happens.

    The line of a step is written once the step has taken effect: a step that is retried may write it twice.
    """
    log.info(event.value, **{name: id for name, id in ids.items() if id is not None})


def refusal_of(error: DomainError) -> Refusal | None:
    """Return what the error refuses; None for one that is no refusal."""
    named = next((kind for type_, kind in _BY_CLASS if isinstance(error, type_)), None)
    return named or _BY_CODE.get(error.code)


def refused(kind: Refusal, *, count: int = 1, **ids: str | None) -> None:
    """Write an audit event for a refusal and count it; ``count``: how many refusals it stands for.

    ``log_context`` adds the digests of the client and the account. Metrics contain the kind only.
    """
    audit(Audit.REFUSED, refusal=kind.value, count=count if count > 1 else None, **ids)
    observer = _observer.get()
    if observer is not None:
        observer(kind.value, count)


@contextmanager
def observing_refusals(observer: Callable[[str, int], None]) -> Iterator[None]:
    """Call the observer with the kind and the number of each refusal while the block runs."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)
