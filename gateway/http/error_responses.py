"""HTTP responses for errors, with a body in the format of GraphQL errors."""

from __future__ import annotations

from collections.abc import Mapping

from graphql import GraphQLError
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from contracts.errors import DomainError, ErrorCode, ErrorReason
from schema.errors import translate


def error_response(
    error: GraphQLError, status: int, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response with the translated error, which hides the details of internal errors."""
    errors = [each.formatted for each in translate([error], request_id)]
    return JSONResponse({"errors": errors}, status_code=status, headers=headers)


def domain_error_response(error: DomainError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with the error's own status, and with Retry-After if the error has a time for a retry."""
    response = error_response(GraphQLError("", original_error=error), error.http_status, request_id, headers)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(round(error.retry_after))
    return response


def forbidden_response(message: str, scope: Scope, status: int = 403) -> Response:
    """Return a response with a FORBIDDEN error, for a request or handshake that no viewer may send."""
    extensions = {"code": ErrorCode.FORBIDDEN.value, "reason": ErrorReason.NOT_PERMITTED.value}
    return error_response(GraphQLError(message, extensions=extensions), status, request_id_of(HTTPConnection(scope)))


def request_id_of(connection: HTTPConnection) -> str:
    """Return the request id that ``RequestIdMiddleware`` has assigned; an empty text without that middleware."""
    request_id: str = getattr(connection.state, "request_id", "")
    return request_id
