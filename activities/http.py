"""HTTP endpoints of the services: authentication of the caller, JSON bodies, JSON responses and error records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contracts.base import Contract
from contracts.callers import Caller
from contracts.errors import DomainError, InvalidInput, NotSignedIn, to_record
from contracts.validation import invalid_input
from infrastructure.observability.logging import log_context
from infrastructure.signing.service_tokens import ServiceTokenSigner

Body = TypeVar("Body", bound=Contract)
Result = Contract | Sequence[Contract] | None

MAX_BODY_BYTES = 64 * 1024


class EmptyBody(Contract):
    """The request body of an endpoint that needs only its path and its caller."""


def endpoint(
    path: str,
    signer: ServiceTokenSigner,
    body: type[Body],
    handle: Callable[[Caller, Body], Awaitable[Result]],
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Route:
    """Return the route ``POST path``: it parses the body, calls ``handle``, and sends the result as JSON.

    The result is a contract, a list of contracts or null. A DomainError becomes a response with its HTTP status and an
    ErrorRecord; any other exception propagates to the host. Every request needs a valid service token, and ``handle``
    calls ``user_of`` if it also requires a signed-in user.

    Args:
        path: the path of the route, such as ``/users/get_users``.
        signer: verifies the service token of the caller.
        body: the contract of the request body.
        handle: executes the request.
        max_body_bytes: the maximum size of the request body; a larger one is InvalidInput.
    """

    async def respond(request: Request) -> Response:
        try:
            caller = signer.read(_token(request))
            request.state.log_context = {
                "request_id": caller.request_id,
                "user": caller.user_id,
                "tenant": caller.tenant_id,
                "client": caller.client or None,
                "account": caller.account or None,
            }
            with log_context(**request.state.log_context):
                return _json(200, _text(await handle(caller, _parse(body, await _read(request, max_body_bytes)))))
        except DomainError as error:
            return _json(error.http_status, to_record(error).model_dump_json())

    return Route(path, respond, methods=["POST"])


def user_of(caller: Caller) -> str:
    """Return the id of the signed-in user.

    Raises:
        NotSignedIn: the caller acts for no user.
    """
    if caller.user_id is None:
        raise NotSignedIn()
    return caller.user_id


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _read(request: Request, max_bytes: int) -> bytes:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > max_bytes:
            raise InvalidInput(f"The body is larger than {max_bytes} bytes.")
    return bytes(received)


def _parse(body: type[Body], text: bytes) -> Body:
    try:
        return body.model_validate_json(text)
    except ValidationError as error:
        raise invalid_input(error) from None  # the error quotes the input, which may contain a password


def _text(result: Result) -> str:
    if result is None:
        return "null"
    if isinstance(result, Contract):
        return result.model_dump_json()
    return f"[{','.join(each.model_dump_json() for each in result)}]"


def _json(status: int, text: str) -> Response:
    return Response(text, status, media_type="application/json")
