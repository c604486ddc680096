"""HTTP/1.1 and websocket framing as hypercorn reads them, less what two servers could read differently."""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Awaitable, Callable, Generator, Iterable

import h11
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Data
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import H2ProtocolAssumedError, H11Protocol
from hypercorn.protocol.ws_stream import Handshake, WSStream
from hypercorn.typing import AppWrapper, ConnectionState, TaskGroup, WorkerContext
from wsproto.connection import Connection, ConnectionType
from wsproto.connection import ConnectionState as SocketState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.events import Event as SocketEvent
from wsproto.frame_protocol import CloseReason

from gateway.http_2 import HOST, MOST_HEAD_BYTES, MOST_HEADERS, Http2
from infrastructure.rate_limit import TokenBucket

_PINGS_A_MINUTE = 100
_MOST_FRAGMENTS = 1_000
"""Of one message, which may all be empty."""
_WHOLE_TEXT = 0x81
"""Of RFC 6455: the first byte of the frame of a text that has no other."""
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_AMBIGUOUS = re.compile(rb"(?<!\r)\n|\r(?!\n)|\n[ \t]|\x00")
"""Lines that end in half of a line's end, that go on in the next, or that hold what ends text elsewhere."""


class Protocols(ProtocolWrapper):
    """The protocol that the peer speaks. HTTP/2 comes by TLS's choice or at once, and never by an upgrade: a proxy that
    passed one on would not see what follows.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        task_group: TaskGroup,
        state: ConnectionState,
        ssl: bool,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        send: Callable[[Event], Awaitable[None]],
        alpn_protocol: str | None = None,
        after_data: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(app, config, context, task_group, state, ssl, client, server, send, alpn_protocol)
        self._after_data = after_data
        kind = Http2 if alpn_protocol == "h2" else _Http1
        self.protocol: _Http1 | Http2 = kind(app, config, context, task_group, state, ssl, client, server, send)

    @property
    def has_partial_head(self) -> bool:
        """Whether the head of a request has begun and is not complete."""
        return self.protocol.has_partial_head

    async def handle(self, event: Event) -> None:
        try:
            await self.protocol.handle(event)
        except H2ProtocolAssumedError as assumed:
            self.protocol = Http2(
                self.app,
                self.config,
                self.context,
                self.task_group,
                self.state,
                self.ssl,
                self.client,
                self.server,
                self.send,
            )
            await self.protocol.initiate()
            await self.send(Updated(idle=True))  # the preface looked like a request, and none may follow
            await self.protocol.handle(RawData(assumed.data))
        if isinstance(event, RawData):
            self._after_data()


class SocketHandshake(Handshake):
    """Agrees to no compression: it costs each message a fifth more time, and each socket three times the memory."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], http_version: str, *, most_bytes: int) -> None:
        super().__init__(list(headers), http_version)
        self.extensions = None  # as if the client had not offered any
        self._most_bytes = most_bytes

    def accept(
        self, subprotocol: str | None, additional_headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[int, list[tuple[bytes, bytes]], Connection]:
        status, headers, _ = super().accept(subprotocol, additional_headers)
        if self.http_version == "1.1":  # there is a client, gql, that finds the subprotocol by this very spelling only
            spelled = {b"sec-websocket-protocol": b"Sec-WebSocket-Protocol"}
            headers = [(spelled.get(name, name), value) for name, value in headers]
        return status, headers, SocketFrames(self._most_bytes)


class _Http1(H11Protocol):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.connection = _Requests(h11.SERVER, max_incomplete_event_size=MOST_HEAD_BYTES)

    @property
    def has_partial_head(self) -> bool:
        is_http = isinstance(self.connection, h11.Connection)
        return is_http and self.connection.their_state is h11.IDLE and bool(self.connection.trailing_data[0])

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Data):
            await self.send(RawData(data=event.data))
        else:
            await super().stream_send(event)

    async def handle(self, event: Event) -> None:
        """A handshake that was refused leaves a stream that is over, on a connection that nobody would close."""
        await super().handle(event)
        if isinstance(self.stream, WSStream) and self.stream.closed:
            await self.send(Closed())


class _Requests(h11.Connection):
    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self.their_state is h11.IDLE:
            received, _ = self.trailing_data
            end = _END_OF_HEAD.search(received)
            if end is not None and end.end() > MOST_HEAD_BYTES:
                raise h11.RemoteProtocolError("The head is too large", error_status_hint=431)
            if end is not None and _AMBIGUOUS.search(received, 0, end.end()):
                raise h11.RemoteProtocolError("A line of the head is not as it must be")
        event = super().next_event()
        return _checked(event) if isinstance(event, h11.Request) else event


class SocketFrames(Connection):
    """A peer that breaks the framing, says too much at once or pings without end is told the code and cut off."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(ConnectionType.SERVER, [])
        self._most_bytes = most_bytes
        self._bytes = self._fragments = 0
        self._pings = TokenBucket(_PINGS_A_MINUTE, 60)

    def text_frame(self, text: str) -> bytes:
        """The frame of a whole text, without ceremony; nothing where the socket is on its way to its end."""
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
                    self._state = SocketState.REMOTE_CLOSING  # in which hypercorn says the code and then hangs up
                yield fault
                return
            yield event

    def _fault(self, event: SocketEvent) -> CloseConnection | None:
        match event:
            case CloseConnection() if self.state is SocketState.OPEN:
                return event  # not the peer's word: its frames could not be read
            case Ping() if not self._pings.consume(asyncio.get_running_loop().time()):
                return CloseConnection(CloseReason.POLICY_VIOLATION, "Too many pings")
            case TextMessage() | BytesMessage():
                self._bytes += len(event.data.encode()) if isinstance(event.data, str) else len(event.data)
                self._fragments += 1
                if self._bytes > self._most_bytes or self._fragments > _MOST_FRAGMENTS:
                    return CloseConnection(CloseReason.MESSAGE_TOO_BIG, "The message is too large")
                if event.message_finished:
                    self._bytes = self._fragments = 0
        return None


def _checked(request: h11.Request) -> h11.Request:
    """Without a wish for HTTP/2. Raises RemoteProtocolError where it is too much, or could be read in two ways."""
    if request.http_version not in (b"1.0", b"1.1") and request.method != b"PRI":
        raise h11.RemoteProtocolError("The version is not spoken here", error_status_hint=505)
    if len(request.headers) > MOST_HEADERS:
        raise h11.RemoteProtocolError("The head is too large", error_status_hint=431)
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version < b"1.1"):
        raise h11.RemoteProtocolError("The body has two lengths")
    for name, value in request.headers:
        if name == b"host" and not HOST.fullmatch(value):
            raise h11.RemoteProtocolError("The host is none")
    if b"upgrade" not in names:
        return request
    headers = [
        (name, value)
        for name, value in request.headers
        if name != b"http2-settings" and not (name == b"upgrade" and value.strip().lower() != b"websocket")
    ]
    return h11.Request(method=request.method, headers=headers, target=request.target, http_version=request.http_version)
