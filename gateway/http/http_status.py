"""Which media type and status an answer in one piece has: those of the GraphQL over HTTP specification."""

from __future__ import annotations

from typing import cast

from graphql import GraphQLError
from starlette.responses import Response
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError

from contracts.errors import ErrorCode
from gateway.http.stream_formats import JSON_TYPE, json_type

_STATUSES = {ErrorCode.INTERNAL.value: 500, ErrorCode.TIMEOUT.value: 504, ErrorCode.RATE_LIMITED.value: 429}
_REFUSED = 400
_ASK_AGAIN = "PERSISTED_QUERY_NOT_FOUND"


def has_no_data(result: ExecutionResult) -> bool:
    """Whether nothing of it was carried out, so that its answer has no data."""
    if isinstance(result, PreExecutionError):
        return True
    return result.data is None and bool(result.errors) and all(error.path is None for error in result.errors or ())


def http_status(result: ExecutionResult) -> int:
    """For a client that reads GraphQL's own media type."""
    if not has_no_data(result):
        return 200
    code = _code(result.errors[0]) if result.errors else None
    return 200 if code == _ASK_AGAIN else _STATUSES.get(code or "", _REFUSED)


def negotiate_media_type(answer: Response, accept: str, status: int) -> Response:
    """The answer in the media type that is asked for. In plain JSON what was understood as a request has 200."""
    kind = json_type(accept)
    if kind != JSON_TYPE and answer.headers.get("content-type", "").startswith(JSON_TYPE):
        answer.headers["content-type"] = f"{kind}; charset=utf-8"
        if answer.status_code == 200:
            answer.status_code = status
    return answer


def _code(error: GraphQLError) -> str | None:
    return cast("str | None", (error.extensions or {}).get("code"))
