"""ASGI middleware for every request: assigns a request id, and limits the size and duration of request bodies."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.error_responses import error_response
from gateway.security.client_network import client_network
from infrastructure.observability.audit import Refusal, observe_refusals, record_refusal
from infrastructure.observability.logging import log_context
from infrastructure.observability.pseudonyms import Pseudonyms
from schema.errors import bad_request

_MAX_DRAIN_FACTOR = 8
"""Of a body that is too large the gateway reads at most this many times the size limit."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RequestIdMiddleware:
    """Assigns a request id to each request: that of the header ``x-request-id`` if it is valid, else a new one.

    The response and all log lines of the request have the id. Log lines also have a digest of the client network. The
    scope's state has both, as ``request_id`` and ``client_digest``.

    Args:
        count_refusals: counts refused requests by their kind.
    """

    def __init__(self, app: ASGIApp, pseudonyms: Pseudonyms, count_refusals: Callable[[str, int], None]) -> None:
        self._app = app
        self._pseudonyms = pseudonyms
        self._count_refusals = count_refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        requested_id = Headers(scope=scope).get("x-request-id", "")
        request_id = requested_id if _REQUEST_ID.fullmatch(requested_id) else uuid4().hex
        client = self._pseudonyms.client(client_network(HTTPConnection(scope)))
        scope.setdefault("state", {}).update(request_id=request_id, client_digest=client)

        async def send_with_id(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        with log_context(request_id=request_id, client=client), observe_refusals(self._count_refusals):
            await self._app(scope, receive, send_with_id)


class RequestBodyError(Exception):
    """The body of a request is refused; the message gives the reason."""

    status = 400


class RequestBodyTooLarge(RequestBodyError):
    """The body of a request exceeds the size limit."""

    status = 413


class RequestBodyTooSlow(RequestBodyError):
    """The body of a request did not arrive within the time limit."""

    status = 408


class BodyLimitMiddleware:
    """Refuses request bodies that are larger than ``max_bytes`` (413) or arrive too slowly (408).

    The middleware counts the bytes that arrive and does not rely on Content-Length.

    Args:
        timeout_seconds: time within which the whole body must arrive.
        exempt_prefix: paths with this prefix have limits of their own.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_seconds: float, exempt_prefix: str) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._exempt_prefix = exempt_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._exempt_prefix):
            await self._app(scope, receive, send)
            return
        body = _LimitedBody(receive, self._max_bytes, self._timeout_seconds)
        has_started = False

        async def send_and_record(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, body.receive, send_and_record)
        except RequestBodyError as error:
            if has_started:
                raise
            record_refusal(Refusal.BODY)
            response = error_response(bad_request(str(error)), error.status, scope["state"]["request_id"])
            await response(scope, receive, send)


class _LimitedBody:
    """The body of one request, with limits on its size and duration."""

    def __init__(self, receive: Receive, max_bytes: int, timeout_seconds: float) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._deadline = asyncio.get_running_loop().time() + timeout_seconds
        self._bytes = 0
        self._is_complete = False

    async def receive(self) -> Message:
        """Return the next ASGI message. After the last part of the body the time limit no longer applies.

        Raises:
            RequestBodyTooLarge: the body exceeds the size limit.
            RequestBodyTooSlow: the body did not arrive within the time limit.
        """
        if self._is_complete:
            return await self._receive()
        message = await self._next()
        if self._bytes > self._max_bytes:
            await self._drain()
            raise RequestBodyTooLarge(f"The body is larger than {self._max_bytes // 1024} KiB.")
        return message

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise RequestBodyTooSlow(f"The body did not come within {self._timeout_seconds:g} seconds.") from error
        self._bytes += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        return message

    async def _drain(self) -> None:
        """Read some of the rest: a client that is still sending when the connection closes never reads the response."""
        with suppress(RequestBodyTooSlow):
            while not self._is_complete and self._bytes < _MAX_DRAIN_FACTOR * self._max_bytes:
                await self._next()
