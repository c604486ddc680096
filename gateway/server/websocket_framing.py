"""The frames of websockets: limits on what a peer sends, no compression, and a direct way for texts to the wire."""

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
"""In a websocket's scope: sends a text past the layers around the application, which leave messages unchanged."""

_PINGS_PER_MINUTE = 100
_MAX_FRAGMENTS = 1_000
"""Of one message, which may all be empty."""
_WHOLE_TEXT = 0x81
"""The first byte of a text frame that is a whole message (RFC 6455, 5.2)."""


def with_websocket_limits(app: ASGIApp, max_bytes: int) -> ASGIApp:
    """Return the application, with websockets that do not compress and accept no message above ``max_bytes``.

    hypercorn has no setting against the first, and would keep the bytes beyond the second.
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
    """Agrees to no compression: it costs each message a fifth more time, and each socket three times the memory."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], http_version: str, *, max_bytes: int) -> None:
        super().__init__(list(headers), http_version)
        self.extensions = None  # as if the client had not offered any
        self._max_bytes = max_bytes

    def accept(
        self, subprotocol: str | None, additional_headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[int, list[tuple[bytes, bytes]], Connection]:
        status, headers, _ = super().accept(subprotocol, additional_headers)
        if self.http_version == "1.1":  # the client gql finds the subprotocol by exactly this spelling
            spelled = {b"sec-websocket-protocol": b"Sec-WebSocket-Protocol"}
            headers = [(spelled.get(name, name), value) for name, value in headers]
        return status, headers, WebSocketFraming(self._max_bytes)


class WebSocketFraming(Connection):
    """Closes with a code if the peer breaks the framing, sends too large a message or pings without end."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(ConnectionType.SERVER, [])
        self._max_bytes = max_bytes
        self._bytes = self._fragments = 0
        self._pings = TokenBucket(_PINGS_PER_MINUTE, 60)

    def text_frame(self, text: str) -> bytes:
        """Return the frame of a whole text; nothing if the socket is closing."""
        if self.state is not SocketState.OPEN:
            return b""
        data = text.encode()
        size = len(data)
        if size < 126:
            return bytes((_WHOLE_TEXT, size)) + data
        if size < 1 << 16:
            return struct.pack("!BBH", _WHOLE_TEXT, 126, size) + data
        return struct.pack("!BBQ", _WHOLE_TEXT, 127, size) + data

    def events(self) -> Generator[SocketEvent]:
        for event in super().events():
            fault = self._fault(event)
            if fault is not None:
                if self.state is SocketState.OPEN:
                    self._state = SocketState.REMOTE_CLOSING  # in which hypercorn sends the code and then disconnects
                yield fault
                return
            yield event

    def _fault(self, event: SocketEvent) -> CloseConnection | None:
        match event:
            case CloseConnection() if self.state is SocketState.OPEN:
                return event  # not sent by the peer: its frames could not be read
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
