"""Websocket frames: limits on received messages and pings, no compression, and a fast path for sending texts."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Generator, Iterable
from functools import partial

from hypercorn.protocol.events import Data
from hypercorn.protocol.ws_stream import Handshake, WSStream
from starlette.types import ASGIApp, Receive, Scope, Send
from wsproto.connection import Connection, ConnectionType
from wsproto.connection import ConnectionState as SocketState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.events import Event as SocketEvent
from wsproto.frame_protocol import CloseReason

from infrastructure.limits.rate_limit import TokenBucket

SEND_TEXT = "adx.send_text"
"""Key in the scope of a websocket: a function that sends a text directly, without the middleware and ASGI events."""

_PINGS_PER_MINUTE = 100
_MAX_FRAGMENTS = 1_000
"""Limit of the fragments of one message, which may all be empty."""
_FINAL_TEXT_FRAME = 0x81
"""The first byte of a text frame that is a complete message (RFC 6455, 5.2)."""


def with_websocket_limits(app: ASGIApp, max_bytes: int) -> ASGIApp:
    """Wrap the application so that websockets do not compress and accept no message above ``max_bytes``.

    hypercorn has no setting for compression, and it buffers the bytes of a message beyond its own limit.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        stream = getattr(send, "__self__", None)
        if isinstance(stream, WSStream):
            stream.handshake = WebSocketHandshake(scope["headers"], scope["http_version"], max_bytes=max_bytes)
            scope[SEND_TEXT] = partial(_send_text, stream)
        await app(scope, receive, send)

    return serve


async def _send_text(stream: WSStream, text: str) -> None:
    assert isinstance(stream.connection, WebSocketFraming)
    if frame := stream.connection.text_frame(text):
        await stream.send(Data(stream_id=stream.stream_id, data=frame))


class WebSocketHandshake(Handshake):
    """The handshake of one websocket, which accepts no extension.

    Compression costs a fifth more time per message and three times the memory per socket.
    """

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], http_version: str, *, max_bytes: int) -> None:
        super().__init__(list(headers), http_version)
        self.extensions = None  # as if the client had not offered any
        self._max_bytes = max_bytes

    def accept(
        self, subprotocol: str | None, additional_headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[int, list[tuple[bytes, bytes]], Connection]:
        """Accept the handshake, and return status code, headers and framing of the socket."""
        status, headers, _ = super().accept(subprotocol, additional_headers)
        if self.http_version == "1.1":  # the client gql compares the header name case-sensitively
            spelling = {b"sec-websocket-protocol": b"Sec-WebSocket-Protocol"}
            headers = [(spelling.get(name, name), value) for name, value in headers]
        return status, headers, WebSocketFraming(self._max_bytes)


class WebSocketFraming(Connection):
    """The framing of one websocket. It closes the socket if the peer breaks the protocol or exceeds a limit."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(ConnectionType.SERVER, [])
        self._max_bytes = max_bytes
        self._bytes = self._fragments = 0
        self._pings = TokenBucket(_PINGS_PER_MINUTE, 60)

    def text_frame(self, text: str) -> bytes:
        """Return the frame for a complete text message; empty if the socket is closing."""
        if self.state is not SocketState.OPEN:
            return b""
        data = text.encode()
        size = len(data)
        if size < 126:
            return bytes((_FINAL_TEXT_FRAME, size)) + data
        if size < 1 << 16:
            return struct.pack("!BBH", _FINAL_TEXT_FRAME, 126, size) + data
        return struct.pack("!BBQ", _FINAL_TEXT_FRAME, 127, size) + data

    def events(self) -> Generator[SocketEvent]:
        """Yield the received events, and a CloseConnection with a code as the last one after a violation."""
        for event in super().events():
            violation = self._violation(event)
            if violation is not None:
                if self.state is SocketState.OPEN:
                    # In this state hypercorn sends the close code and then disconnects.
                    self._state = SocketState.REMOTE_CLOSING
                yield violation
                return
            yield event

    def _violation(self, event: SocketEvent) -> CloseConnection | None:
        match event:
            case CloseConnection() if self.state is SocketState.OPEN:
                return event  # created by wsproto, because the frames of the peer are invalid
            case Ping() if not self._pings.consume(asyncio.get_running_loop().time()):
                return CloseConnection(CloseReason.POLICY_VIOLATION, "Too many pings")
            case TextMessage() | BytesMessage():
                self._bytes += len(event.data.encode()) if isinstance(event.data, str) else len(event.data)
                self._fragments += 1
                if self._bytes > self._max_bytes or self._fragments > _MAX_FRAGMENTS:
                    return CloseConnection(CloseReason.MESSAGE_TOO_BIG, "The message is too large")
                if event.message_finished:
                    self._bytes = self._fragments = 0
        return None
