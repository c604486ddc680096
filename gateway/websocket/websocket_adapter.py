"""The adapter between strawberry and one websocket: reads JSON messages, sends texts, and closes the socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress

from starlette.websockets import WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import NonJsonMessageReceived, NonTextMessageReceived

from gateway.server.websocket_framing import SEND_TEXT

_CLOSE_TIMEOUT_SECONDS = 2.0
"""Time for the peer to answer a close frame before its socket is abandoned."""


class SocketAdapter(ASGIWebSocketAdapter):
    """Reads messages that are JSON objects and sends messages. Any other message closes the socket with 4400."""

    last_received_at = 0.0
    """Time of the event loop at which the last message arrived."""
    is_abandoned = False
    """Whether reading was cancelled because the peer did not answer a close frame."""
    _reading: asyncio.Task[object] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether this side has closed the socket."""
        return self.ws.application_state is WebSocketState.DISCONNECTED

    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:  # noqa: ARG002
        """Yield each message until the peer disconnects.

        Raises:
            NonTextMessageReceived: a message is binary.
            NonJsonMessageReceived: a message is not a JSON object.
        """
        self._reading = asyncio.current_task()
        loop = asyncio.get_running_loop()
        try:
            while True:
                message = await self.ws.receive()
                self.last_received_at = loop.time()
                if message["type"] == "websocket.disconnect":
                    return
                if not self.is_closed:  # ignore messages that arrive after this side has closed the socket
                    yield self._decode(message.get("text"))
        finally:
            self._reading = None

    async def send_json(self, message: Mapping[str, object]) -> None:
        """Send a message, unless the socket is closed."""
        if not self.is_closed:
            await super().send_json(message)

    async def send_text(self, text: str) -> None:
        """Send a text message, by the fast path of the server (``SEND_TEXT``) if the server has it."""
        if self.is_closed:
            return
        send_text: Callable[[str], Awaitable[None]] | None = self.ws.scope.get(SEND_TEXT)
        if send_text is not None:
            await send_text(text)
        else:
            await self.ws.send({"type": "websocket.send", "text": text})

    async def close(self, code: int, reason: str) -> None:
        """Close the socket with this code and reason; abandon it if the peer does not answer within the timeout."""
        if self.is_closed:
            return
        asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT_SECONDS, self._abandon)
        with suppress(WebSocketDisconnect, RuntimeError):  # the client has closed the socket already
            await super().close(code, reason.encode()[:120].decode(errors="ignore"))

    def _decode(self, text: str | None) -> dict[str, object]:
        if text is None:
            raise NonTextMessageReceived
        try:
            message = self.view.decode_json(text)
        except (ValueError, RecursionError) as error:
            raise NonJsonMessageReceived from error
        if not isinstance(message, dict):
            raise NonJsonMessageReceived
        return message

    def _abandon(self) -> None:
        if self._reading is not None:
            self.is_abandoned = True
            self._reading.cancel()
