"""Translation of exceptions of resolvers, Temporal and services into domain errors."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import ValidationError
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.service import RPCError, RPCStatusCode

from contracts.errors import DeadlineExceeded, DomainError, ErrorRecord, RateLimited, ServiceUnavailable, from_record

TEMPORAL = "temporal"

_WRAPPER_ERRORS = (FailureError, WorkflowFailureError, WorkflowUpdateFailedError)
_CONNECTION_LOST = re.compile(r"transport error|h2 protocol error|connection|broken pipe|stream", re.IGNORECASE)
"""Messages of the SDK for a connection that broke during a response, which it reports as UNKNOWN or INTERNAL."""
_UNAVAILABLE = frozenset((RPCStatusCode.UNAVAILABLE, RPCStatusCode.ABORTED, RPCStatusCode.CANCELLED))


def domain_error(error: BaseException | None) -> DomainError | None:
    """Return the domain error that an exception is or contains; None for an unexpected error (a fault).

    Errors of Temporal's API become DeadlineExceeded, RateLimited or ServiceUnavailable. A domain error that a worker
    raised is restored from the failure of its workflow or activity.
    """
    for cause in _causes(error):
        if isinstance(cause, DomainError):
            return cause
        if isinstance(cause, RPCError):
            return _from_rpc_error(cause)
        if isinstance(cause, ApplicationError) and (original := _from_application_error(cause)):
            return original
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and the causes that Temporal wrapped in it, outermost first."""
    while error is not None:
        yield error
        error = error.cause if isinstance(error, _WRAPPER_ERRORS) else None


def _from_rpc_error(error: RPCError) -> DomainError | None:
    match error.status:
        case RPCStatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(service=TEMPORAL)
        case RPCStatusCode.RESOURCE_EXHAUSTED:
            return RateLimited(retry_after=1)
        case status if status in _UNAVAILABLE:
            return ServiceUnavailable(service=TEMPORAL)
        case RPCStatusCode.UNKNOWN | RPCStatusCode.INTERNAL if _CONNECTION_LOST.search(error.message):
            return ServiceUnavailable(service=TEMPORAL)
    return None


def _from_application_error(error: ApplicationError) -> DomainError | None:
    """Restore the domain error from the ErrorRecord in the details; None for other errors and for unknown names."""
    try:
        return from_record(ErrorRecord.model_validate(error.details[0]))
    except (IndexError, LookupError, ValidationError):
        return None
