"""HTTP/1.1, HTTP/2 and websocket framing as hypercorn reads them, less what two servers could read differently."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Generator, Iterable

import h11
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    StreamReset,
    UnknownFrameReceived,
)
from h2.events import Event as Http2Event
from h2.frame_buffer import FrameBuffer
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H2ProtocolAssumedError, H11Protocol
from hypercorn.protocol.ws_stream import Handshake, WSStream
from hypercorn.typing import AppWrapper, ConnectionState, TaskGroup, WorkerContext
from hyperframe.frame import Frame
from wsproto.connection import Connection, ConnectionType
from wsproto.connection import ConnectionState as SocketState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.events import Event as SocketEvent
from wsproto.frame_protocol import CloseReason

from gateway.socket_limits import Allowance

_MOST_HEAD_BYTES = 16 * 1024
_MOST_HEADERS = 100
_FRAME_LENGTH_BYTES = 3
_PINGS_A_MINUTE = 100
_MOST_FRAGMENTS = 1_000
"""Of one message, which may all be empty."""
_IDLE_FRAMES_A_MINUTE = 400
"""Of one HTTP/2 connection: frames that make work and are part of no request. One that is heard out gives one back."""
_TURN_BYTES = 16 * 1024
"""What is read of one HTTP/2 connection, in frames of nine bytes perhaps, before others have their turn."""
_COMPRESSION_BYTES = 4096
"""What is remembered of the headers sent to one peer, whatever more it offers: each new header is looked for in it."""
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_AMBIGUOUS = re.compile(rb"(?<!\r)\n|\r(?!\n)|\n[ \t]|\x00")
"""Lines that end in half of a line's end, that go on in the next, or that hold what ends text elsewhere."""
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")


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
    ) -> None:
        super().__init__(app, config, context, task_group, state, ssl, client, server, send, alpn_protocol)
        kind = _Http2 if alpn_protocol == "h2" else _Http1
        self.protocol = kind(app, config, context, task_group, state, ssl, client, server, send)

    async def handle(self, event: Event) -> None:
        try:
            await self.protocol.handle(event)
        except H2ProtocolAssumedError as assumed:
            self.protocol = _Http2(
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
        return status, headers, _SocketFrames(self._most_bytes)


class _Http1(H11Protocol):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.connection = _Requests(h11.SERVER, max_incomplete_event_size=_MOST_HEAD_BYTES)

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
            if end is not None and end.end() > _MOST_HEAD_BYTES:
                raise h11.RemoteProtocolError("The head is too large", error_status_hint=431)
            if end is not None and _AMBIGUOUS.search(received, 0, end.end()):
                raise h11.RemoteProtocolError("A line of the head is not as it must be")
        event = super().next_event()
        return _checked(event) if isinstance(event, h11.Request) else event


class _Http2(H2Protocol):
    """Priorities, which cost much and are given up by RFC 9113, are not heeded."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.connection.incoming_buffer = _Http2Frames(server=True)
        self.connection.decoder.max_header_list_size = _MOST_HEAD_BYTES
        self._idle_frames = Allowance(_IDLE_FRAMES_A_MINUTE)

    async def handle(self, event: Event) -> None:
        if not isinstance(event, RawData):
            await super().handle(event)
            for buffer in list(self.stream_buffers.values()):  # in which answers wait for a peer that is gone
                await buffer.close()
            return
        for begin in range(0, len(event.data), _TURN_BYTES):
            if begin:
                await asyncio.sleep(0)
            if not self.closed:
                await super().handle(RawData(event.data[begin : begin + _TURN_BYTES]))

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, StreamClosed) and event.stream_id in self.streams:
            self._idle_frames.regain()
        await super().stream_send(event)

    async def _handle_events(self, events: list[Http2Event]) -> None:
        """One at a time, for each may close the stream that the next one is for."""
        for event in events:
            if self._is_idle(event) and not self._idle_frames.spend(asyncio.get_running_loop().time()):
                self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
                await self._flush()
                await self.send(Closed())
                return
            if isinstance(event, RequestReceived) and not _is_complete(event):
                self.connection.reset_stream(event.stream_id, ErrorCodes.PROTOCOL_ERROR)
                await self._flush()
            elif isinstance(event, DataReceived) and event.stream_id not in self.streams:
                # More of a body that was refused: taken, so that the connection's other streams go on.
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                await self._flush()
            elif not isinstance(event, PriorityUpdated):
                await super()._handle_events([event])
            if isinstance(event, RemoteSettingsChanged):
                encoder = self.connection.encoder
                encoder.header_table_size = min(encoder.header_table_size, _COMPRESSION_BYTES)
            elif isinstance(event, StreamReset):
                await asyncio.sleep(0)  # in which the sending task forgets the stream

    def _is_idle(self, event: Http2Event) -> bool:
        """Whether it costs something here and is part of no request."""
        match event:
            case DataReceived():
                return not event.data and event.stream_ended is None
            case StreamReset():
                return event.stream_id in self.streams
        return isinstance(event, PingReceived | PriorityUpdated | RemoteSettingsChanged | UnknownFrameReceived)


class _Http2Frames(FrameBuffer):
    """Refuses a frame that is too long when it begins, and not once all of it was kept."""

    def __next__(self) -> Frame:
        if len(self._data) >= _FRAME_LENGTH_BYTES:
            self._validate_frame_length(int.from_bytes(self._data[:_FRAME_LENGTH_BYTES]))
        return super().__next__()


class _SocketFrames(Connection):
    """A peer that breaks the framing, says too much at once or pings without end is told the code and cut off."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(ConnectionType.SERVER, [])
        self._most_bytes = most_bytes
        self._bytes = self._fragments = 0
        self._pings = Allowance(_PINGS_A_MINUTE)

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
            case Ping() if not self._pings.spend(asyncio.get_running_loop().time()):
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
    if len(request.headers) > _MOST_HEADERS:
        raise h11.RemoteProtocolError("The head is too large", error_status_hint=431)
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version < b"1.1"):
        raise h11.RemoteProtocolError("The body has two lengths")
    for name, value in request.headers:
        if name == b"host" and not _HOST.fullmatch(value):
            raise h11.RemoteProtocolError("The host is none")
    if b"upgrade" not in names:
        return request
    headers = [
        (name, value)
        for name, value in request.headers
        if name != b"http2-settings" and not (name == b"upgrade" and value.strip().lower() != b"websocket")
    ]
    return h11.Request(method=request.method, headers=headers, target=request.target, http_version=request.http_version)


def _is_complete(request: RequestReceived) -> bool:
    """Whether it has the parts that hypercorn counts on, and few more. CONNECT is for websockets only (RFC 8441)."""
    parts: dict[bytes, bytes] = dict(request.headers)
    method, path = parts.get(b":method", b""), parts.get(b":path", b"")
    host = parts.get(b":authority", parts.get(b"host", b""))
    if method == b"CONNECT" and parts.get(b":protocol") != b"websocket":
        return False
    if len(request.headers) > _MOST_HEADERS:
        return False
    return method.isalpha() and path.isascii() and path != b"" and _HOST.fullmatch(host) is not None
