"""Pure ASGI layers around every request: an id for it, and bounds on its size and its time."""

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

_DRAINED = 8
"""How many times as much as is taken is read of what is refused."""
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RequestIdMiddleware:
    """Names each request by the ``x-request-id`` it came with, or a new one; answers and logs carry the name.

    Logs also carry the digest of the client's network. It stands in the scope's state as ``client_digest``.
    """

    def __init__(self, app: ASGIApp, pseudonyms: Pseudonyms, count_refusals: Callable[[str, int], None]) -> None:
        self._app = app
        self._pseudonyms = pseudonyms
        self._count_refusals = count_refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ACCEPTABLE.fullmatch(given) else uuid4().hex
        client = self._pseudonyms.client(client_network(HTTPConnection(scope)))
        scope.setdefault("state", {}).update(request_id=request_id, client_digest=client)

        async def send_named(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        with log_context(request_id=request_id, client=client), observe_refusals(self._count_refusals):
            await self._app(scope, receive, send_named)


class RequestBodyError(Exception):
    """A request's body is not taken; says why."""

    status = 400


class RequestBodyTooLarge(RequestBodyError):
    status = 413


class RequestBodyTooSlow(RequestBodyError):
    status = 408


class BodyLimitMiddleware:
    """Refuses bodies above a number of bytes, whatever their headers say, and those that take too long to come.

    Paths that begin with ``beyond`` have bounds of their own.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, seconds: float, beyond: str) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._beyond = beyond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._beyond):
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._most_bytes, self._seconds)
        has_begun = False

        async def send_noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, body.receive, send_noted)
        except RequestBodyError as error:
            if has_begun:
                raise
            record_refusal(Refusal.BODY)
            response = error_response(bad_request(str(error)), error.status, scope["state"]["request_id"])
            await response(scope, receive, send)


class _Body:
    """One body as it comes."""

    def __init__(self, receive: Receive, most_bytes: int, seconds: float) -> None:
        self._receive = receive
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._until = asyncio.get_running_loop().time() + seconds
        self._bytes = 0
        self._is_whole = False

    async def receive(self) -> Message:
        """The next part of it. Raises TooLarge, TooSlow; once it is whole no wait ends."""
        if self._is_whole:
            return await self._receive()
        message = await self._next()
        if self._bytes > self._most_bytes:
            await self._drain()
            raise RequestBodyTooLarge(f"The body is larger than {self._most_bytes // 1024} KiB.")
        return message

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError as error:
            raise RequestBodyTooSlow(f"The body did not come within {self._seconds:g} seconds.") from error
        self._bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        return message

    async def _drain(self) -> None:
        """Take some of the rest: who is still sending when the connection is closed never reads why."""
        with suppress(RequestBodyTooSlow):
            while not self._is_whole and self._bytes < _DRAINED * self._most_bytes:
                await self._next()
