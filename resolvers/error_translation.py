"""From whatever a resolver raised to the answer that the client is given, or to the word that there is none."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import ValidationError
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.service import RPCError, RPCStatusCode

from contracts.errors import DeadlineExceeded, DomainError, ErrorRecord, RateLimited, ServiceUnavailable, from_record

TEMPORAL = "temporal"

_WRAPPINGS = (FailureError, WorkflowFailureError, WorkflowUpdateFailedError)
_CUT_OFF = re.compile(r"transport error|h2 protocol error|connection|broken pipe|stream", re.IGNORECASE)
"""How the SDK words, as UNKNOWN or INTERNAL, that the connection was lost while the server answered."""
_NOT_ANSWERING = frozenset((RPCStatusCode.UNAVAILABLE, RPCStatusCode.ABORTED, RPCStatusCode.CANCELLED))


def domain_error(error: BaseException | None) -> DomainError | None:
    """The answer that the error is or carries over Temporal, by name; None where it is trouble."""
    for cause in _causes(error):
        if isinstance(cause, DomainError):
            return cause
        if isinstance(cause, RPCError):
            return _of_temporal(cause)
        if isinstance(cause, ApplicationError) and (answer := _carried(cause)):
            return answer
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what Temporal wrapped in it, outermost first."""
    while error is not None:
        yield error
        error = error.cause if isinstance(error, _WRAPPINGS) else None


def _of_temporal(error: RPCError) -> DomainError | None:
    match error.status:
        case RPCStatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(service=TEMPORAL)
        case RPCStatusCode.RESOURCE_EXHAUSTED:
            return RateLimited(retry_after=1)
        case status if status in _NOT_ANSWERING:
            return ServiceUnavailable(service=TEMPORAL)
        case RPCStatusCode.UNKNOWN | RPCStatusCode.INTERNAL if _CUT_OFF.search(error.message):
            return ServiceUnavailable(service=TEMPORAL)
    return None


def _carried(error: ApplicationError) -> DomainError | None:
    """What a worker's interceptor packed: an ErrorRecord as the only detail. A name of a newer release is trouble."""
    try:
        return from_record(ErrorRecord.model_validate(error.details[0]))
    except (IndexError, LookupError, ValidationError):
        return None
