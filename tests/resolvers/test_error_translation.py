"""Translation of errors of Temporal into domain errors."""

from __future__ import annotations

import pytest
from temporalio.service import RPCError, RPCStatusCode

from contracts.errors import DeadlineExceeded, RateLimited, ServiceUnavailable
from resolvers.error_translation import domain_error


@pytest.mark.parametrize(
    ("status", "message", "answer"),
    [
        (RPCStatusCode.UNAVAILABLE, "tcp connect error", ServiceUnavailable),
        (RPCStatusCode.DEADLINE_EXCEEDED, "Timeout expired", DeadlineExceeded),
        (RPCStatusCode.RESOURCE_EXHAUSTED, "namespace rate limit exceeded", RateLimited),
        (RPCStatusCode.UNKNOWN, "transport error", ServiceUnavailable),
        (RPCStatusCode.INTERNAL, "h2 protocol error: error reading a body from connection", ServiceUnavailable),
        (RPCStatusCode.UNKNOWN, "something about a row", type(None)),
        (RPCStatusCode.INVALID_ARGUMENT, "no", type(None)),
    ],
)
def test_translates_rpc_errors_to_domain_errors(status: RPCStatusCode, message: str, answer: type[object]) -> None:
    assert type(domain_error(RPCError(message, status, b""))) is answer
