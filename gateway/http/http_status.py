"""Status code and media type of a GraphQL response in one piece, by the GraphQL over HTTP specification."""

from __future__ import annotations

from typing import cast

from graphql import GraphQLError
from starlette.responses import Response
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError

from contracts.errors import ErrorCode
from gateway.http.stream_formats import JSON_TYPE, json_type

_STATUS_BY_CODE = {ErrorCode.INTERNAL.value: 500, ErrorCode.TIMEOUT.value: 504, ErrorCode.RATE_LIMITED.value: 429}
_BAD_REQUEST = 400
_PERSISTED_QUERY_NOT_FOUND = "PERSISTED_QUERY_NOT_FOUND"


def has_no_data(result: ExecutionResult) -> bool:
    """Return whether no field was executed, so that the response has no entry ``data``."""
    if isinstance(result, PreExecutionError):
        return True
    return result.data is None and bool(result.errors) and all(error.path is None for error in result.errors or ())


def http_status(result: ExecutionResult) -> int:
    """Return the status code of a response with GraphQL's own media type: 200 if any field was executed."""
    if not has_no_data(result):
        return 200
    code = _code(result.errors[0]) if result.errors else None
    return 200 if code == _PERSISTED_QUERY_NOT_FOUND else _STATUS_BY_CODE.get(code or "", _BAD_REQUEST)


def negotiate_media_type(response: Response, accept: str, status: int) -> Response:
    """Set the media type that the client prefers, and return the response.

    Args:
        accept: the request's header Accept.
        status: the status code for GraphQL's own media type. A response of type ``application/json`` keeps 200.
    """
    media_type = json_type(accept)
    if media_type != JSON_TYPE and response.headers.get("content-type", "").startswith(JSON_TYPE):
        response.headers["content-type"] = f"{media_type}; charset=utf-8"
        if response.status_code == 200:
            response.status_code = status
    return response


def _code(error: GraphQLError) -> str | None:
    return cast("str | None", (error.extensions or {}).get("code"))
