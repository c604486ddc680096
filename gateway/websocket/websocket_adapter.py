"""The frames of one websocket: checked before they are believed, and closed with a word where there can be one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress

from starlette.websockets import WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import NonJsonMessageReceived, NonTextMessageReceived

from gateway.server.websocket_framing import SEND_TEXT

_CLOSING_SECONDS = 2.0
"""How long a peer may take to answer a close before it is left alone."""


class SocketAdapter(ASGIWebSocketAdapter):
    """Reads JSON objects. Whatever else comes closes the socket with 4400."""

    heard_at = 0.0
    """The event loop's time at the newest sign of life."""
    is_abandoned = False
    _reading: asyncio.Task[object] | None = None

    @property
    def is_closed(self) -> bool:
        return self.ws.application_state is WebSocketState.DISCONNECTED

    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:  # noqa: ARG002
        self._reading = asyncio.current_task()
        loop = asyncio.get_running_loop()
        try:
            while True:
                message = await self.ws.receive()
                self.heard_at = loop.time()
                if message["type"] == "websocket.disconnect":
                    return
                if not self.is_closed:  # else the peer has yet to answer our close
                    yield self._frame(message.get("text"))
        finally:
            self._reading = None

    async def send_json(self, message: Mapping[str, object]) -> None:
        if not self.is_closed:
            await super().send_json(message)

    async def send_text(self, text: str) -> None:
        if self.is_closed:
            return
        send_text: Callable[[str], Awaitable[None]] | None = self.ws.scope.get(SEND_TEXT)
        if send_text is not None:
            await send_text(text)
        else:
            await self.ws.send({"type": "websocket.send", "text": text})

    async def close(self, code: int, reason: str) -> None:
        """Say so to the peer, and leave it alone where it does not answer in time."""
        if self.is_closed:
            return
        asyncio.get_running_loop().call_later(_CLOSING_SECONDS, self._abandon)
        with suppress(WebSocketDisconnect, RuntimeError):  # the client was quicker
            await super().close(code, reason.encode()[:120].decode(errors="ignore"))

    def _frame(self, text: str | None) -> dict[str, object]:
        if text is None:
            raise NonTextMessageReceived
        try:
            frame = self.view.decode_json(text)
        except (ValueError, RecursionError) as error:
            raise NonJsonMessageReceived from error
        if not isinstance(frame, dict):
            raise NonJsonMessageReceived
        return frame

    def _abandon(self) -> None:
        if self._reading is not None:
            self.is_abandoned = True
            self._reading.cancel()
