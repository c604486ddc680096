"""GraphQL websockets: frames checked before they are believed, and an end with the session that opened them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol, cast

from graphql import GraphQLError
from starlette.websockets import WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.async_base_view import AsyncWebSocketAdapter
from strawberry.http.exceptions import NonJsonMessageReceived, NonTextMessageReceived
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import ConnectionInitMessage, Message

from contracts.errors import DomainError
from resolvers.context import Context

SESSION_CHECK_SECONDS = 5.0
LAST_WORDS_SECONDS = 5.0
"""How long the streams of an ended session may go on, for the operation that ended it to be seen to its own end."""
SESSION_ENDED = 4403
"""A client that introduces itself by cookie comes back by itself at this code, with the new session's."""

RESTARTING = 1012


class SocketAdapter(ASGIWebSocketAdapter):
    """Reads JSON objects. Whatever else comes closes the socket with 4400."""

    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:  # noqa: ARG002
        while self.ws.application_state != WebSocketState.DISCONNECTED:
            message = await self.ws.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                raise NonTextMessageReceived
            try:
                frame = self.view.decode_json(text)
            except (ValueError, RecursionError) as error:
                raise NonJsonMessageReceived from error
            if not isinstance(frame, dict):
                raise NonJsonMessageReceived
            yield frame

    async def close(self, code: int, reason: str) -> None:
        if self.ws.application_state != WebSocketState.DISCONNECTED:
            with suppress(WebSocketDisconnect, RuntimeError):  # the client was quicker
                await super().close(code, reason.encode()[:120].decode(errors="ignore"))


class OpenSockets:
    """The sockets of this process, so that they can be told when it stops."""

    def __init__(self) -> None:
        self._adapters: set[AsyncWebSocketAdapter] = set()
        self._stopping = False

    @asynccontextmanager
    async def opened(self, socket: AsyncWebSocketAdapter) -> AsyncIterator[None]:
        """While the block runs the socket is one of them. One that opens while the process stops is closed at once."""
        self._adapters.add(socket)
        try:
            if self._stopping:
                await socket.close(RESTARTING, "Restarting")
            yield
        finally:
            self._adapters.discard(socket)

    async def close(self) -> None:
        """Close all with 1012, at which clients come back by themselves, at another replica."""
        self._stopping = True
        await asyncio.gather(*(socket.close(RESTARTING, "Restarting") for socket in list(self._adapters)))


class HasSockets(Protocol):
    sockets: OpenSockets


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """One socket. Once its session has ended it closes, after the streams that were under way have told their last."""

    _watching: asyncio.Task[None] | None = None

    async def handle(self) -> None:
        async with cast(HasSockets, self.view).sockets.opened(self.websocket):
            await super().handle()

    async def handle_message(self, message: Message) -> None:
        if _is_well_formed(message):
            await super().handle_message(message)
        else:
            await self.handle_invalid_message("The message is not one of the protocol's")

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        if message.get("payload") is None:  # the protocol's way to say that there is none
            message.pop("payload", None)
        await super().handle_connection_init(message)
        if self.connection_acknowledged and self._watching is None and self.context.token is not None:
            self._watching = asyncio.create_task(self._watch_session())

    async def shutdown(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await super().shutdown()

    @staticmethod
    def _get_pre_execution_close_reason(error: GraphQLError) -> str | None:  # noqa: ARG004
        return None  # a bad document is told as its own error: the other streams of the socket go on

    async def _watch_session(self) -> None:
        """A token that opened nothing from the start may yet: it is that of a login under way."""
        was_open = False
        while True:
            context = self.context.for_execution()
            try:
                is_open = await context.viewer() is not None
            except DomainError:  # the auth service does not answer: that ends no session
                is_open = was_open
            if was_open and not is_open:
                break
            was_open = is_open
            await asyncio.sleep(SESSION_CHECK_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                while self.operations:  # noqa: ASYNC110 - the base class tells nobody when one ends
                    await asyncio.sleep(0.05)
        await self.websocket.close(SESSION_ENDED, "The session has ended")


def _is_well_formed(message: object) -> bool:
    """Whether the frame's parts have the types that the protocol gives them."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return False
    if message["type"] in ("subscribe", "complete") and not isinstance(message.get("id"), str):
        return False
    if message["type"] != "subscribe":
        return True
    payload = message.get("payload")
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("query"), str)
        and isinstance(payload.get("variables"), dict | None)
        and isinstance(payload.get("operationName"), str | None)
    )
