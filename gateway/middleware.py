"""Pure ASGI layers around every request: an id for it, and a bound on its size."""

from __future__ import annotations

import re
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ACCEPTABLE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RequestIds:
    """Names each request by the ``x-request-id`` it came with, or a new one; answers and logs carry the name."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ACCEPTABLE.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_named(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_named)


class TooLarge(Exception):
    """The body of a request is larger than it may be."""


class BodyLimit:
    """Refuses bodies above a number of bytes, whatever their headers say: raises ``TooLarge`` while one is read.

    Paths that begin with ``beyond`` have bounds of their own.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, beyond: str) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._beyond = beyond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._beyond):
            await self._app(scope, receive, send)
            return
        left = self._most_bytes

        async def receive_bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise TooLarge
            return message

        await self._app(scope, receive_bounded, send)
