"""What the domains' HTTP endpoints share: who calls, the contract in the body, the answer, and errors as records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contracts.base import Contract
from contracts.errors import DomainError, InvalidInput, NotSignedIn, to_record
from contracts.service_tokens import Caller, ServiceTokenSigner
from contracts.validation import invalid_input
from infrastructure.observability.logging import log_context

Body = TypeVar("Body", bound=Contract)
Answer = Contract | Sequence[Contract] | None

MAX_BODY_BYTES = 64 * 1024


class EmptyBody(Contract):
    """The body of a call that says all by its path and its caller."""


def endpoint(
    path: str,
    signer: ServiceTokenSigner,
    body: type[Body],
    handle: Callable[[Caller, Body], Awaitable[Answer]],
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Route:
    """``POST path`` with a contract as JSON, answered by a contract, a list of them or null.

    A DomainError is answered with its status and an ErrorRecord; trouble rises to the host. Every call needs a valid
    token; ``handle`` says by ``user_of`` whether it also needs somebody signed in.
    """

    async def answer(request: Request) -> Response:
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

    return Route(path, answer, methods=["POST"])


def user_of(caller: Caller) -> str:
    """The id of the user who calls; NotSignedIn where nobody has signed in."""
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
        raise invalid_input(error) from None  # the error quotes what was sent, which may be a password


def _text(answer: Answer) -> str:
    if answer is None:
        return "null"
    if isinstance(answer, Contract):
        return answer.model_dump_json()
    return f"[{','.join(each.model_dump_json() for each in answer)}]"


def _json(status: int, text: str) -> Response:
    return Response(text, status, media_type="application/json")
