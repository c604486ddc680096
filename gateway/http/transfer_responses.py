"""What the responses of uploads and downloads have in common."""

from __future__ import annotations

import json

from graphql import GraphQLError
from starlette.requests import Request
from starlette.responses import Response

from contracts.errors import DomainError
from schema.errors import translate

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",  # its address is the secret, and frontends elsewhere show images
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
}


def refusal(error: DomainError, request: Request) -> Response:
    """Return the error in the shape of every other error."""
    formatted = translate([GraphQLError("", original_error=error)], request_id_of(request))
    body = json.dumps({"errors": [each.formatted for each in formatted]})
    response = Response(body, error.http_status, media_type="application/json", headers=SAFE_HEADERS)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(round(error.retry_after))
    return response


def request_id_of(request: Request) -> str:
    """Return the id by which logs know the request; empty without the middleware that gives it one."""
    request_id: str = getattr(request.state, "request_id", "")
    return request_id
