"""HTTP/2 as hypercorn reads it, with limits on frames that belong to no request, and nothing kept of closed peers."""

from __future__ import annotations

import asyncio
from contextlib import suppress

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
from h2.exceptions import ProtocolError
from h2.frame_buffer import FrameBuffer
from hypercorn.events import Closed, Event
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER, BUFFER_LOW_WATER, BufferCompleteError, H2Protocol, StreamBuffer
from hypercorn.typing import Event as IOEvent
from hyperframe.frame import Frame

from gateway.server.heads import HOST, MAX_HEAD_BYTES, MAX_HEADERS
from infrastructure.limits.rate_limit import TokenBucket

_FRAME_LENGTH_BYTES = 3
_IDLE_FRAMES_PER_MINUTE = 400
"""Of one connection: frames that cost time and belong to no request. Each complete response refunds one."""
_HEADER_TABLE_BYTES = 4096
"""Of the table of sent headers, however large a table the peer offers: each new header is searched in it."""


class Http2(H2Protocol):
    """Ignores priorities, which cost much and are deprecated by RFC 9113."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._frames = self.connection.incoming_buffer = _Http2Frames(server=True)
        self.connection.decoder.max_header_list_size = MAX_HEAD_BYTES
        self.stream_buffers = _StreamBuffers(self.context.event_class)
        self._has_settings = False
        self._idle_frames = TokenBucket(_IDLE_FRAMES_PER_MINUTE, 60)

    async def handle(self, event: Event) -> None:
        await super().handle(event)
        if isinstance(event, Closed):
            for buffer in list(self.stream_buffers.values()):  # in which responses wait for a peer that is gone
                await buffer.close()

    @property
    def has_partial_head(self) -> bool:
        """Whether a frame has begun and is not complete, or the settings are missing that a client begins with.

        While requests are under way, their bodies' frames may well come in parts.
        """
        return not self.streams and (self._frames.is_partial or not self._has_settings)

    async def stream_send(self, event: StreamEvent) -> None:
        if not isinstance(event, StreamClosed) or event.stream_id not in self.streams:
            await super().stream_send(event)
            return
        self._idle_frames.refund()
        await super().stream_send(event)
        buffer = self.stream_buffers.get(event.stream_id)
        if buffer is not None and not buffer.complete:
            await self._reset_incomplete(event.stream_id)

    async def _reset_incomplete(self, stream_id: int) -> None:
        """Reset a stream that the application has left without its last message: its client would wait for that."""
        with suppress(ProtocolError):  # the peer has ended the connection
            self.connection.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
        await self._flush()
        await self._window_updated(stream_id)  # wakes the sending task, which forgets the stream

    async def _handle_events(self, events: list[Http2Event]) -> None:
        """Handle one event at a time, because each may close the stream of the next one."""
        for event in events:
            if self._is_idle(event) and not self._idle_frames.consume(asyncio.get_running_loop().time()):
                self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
                await self._flush()
                await self.send(Closed())
                return
            if isinstance(event, RequestReceived) and not _is_complete(event):
                self.connection.reset_stream(event.stream_id, ErrorCodes.PROTOCOL_ERROR)
                await self._flush()
            elif isinstance(event, DataReceived) and event.stream_id not in self.streams:
                # The rest of a body that was refused: accepted, so that the other streams continue.
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                await self._flush()
            elif not isinstance(event, PriorityUpdated):
                await super()._handle_events([event])
            if isinstance(event, RemoteSettingsChanged):
                self._has_settings = True
                encoder = self.connection.encoder
                encoder.header_table_size = min(encoder.header_table_size, _HEADER_TABLE_BYTES)

    def _is_idle(self, event: Http2Event) -> bool:
        """Whether the event costs time and belongs to no request."""
        match event:
            case DataReceived():
                return not event.data and event.stream_ended is None
            case StreamReset():
                return event.stream_id in self.streams
        return isinstance(event, PingReceived | PriorityUpdated | RemoteSettingsChanged | UnknownFrameReceived)


class _StreamBuffers(dict[int, StreamBuffer]):
    """The buffers of a connection's streams: a _WaitingBuffer replaces each buffer that hypercorn adds."""

    def __init__(self, event_class: type[IOEvent]) -> None:
        super().__init__()
        self._event_class = event_class

    def __setitem__(self, stream_id: int, _: StreamBuffer) -> None:
        super().__setitem__(stream_id, _WaitingBuffer(self._event_class))


class _WaitingBuffer(StreamBuffer):
    """Makes the application wait while the peer's window is empty.

    hypercorn's own buffer wakes the application at each attempt to send, so that it would hold all of a response whose
    client does not read.
    """

    async def push(self, data: bytes) -> None:
        if self._complete:
            raise BufferCompleteError()
        self.buffer.extend(data)
        await self._is_empty.clear()
        while len(self.buffer) >= BUFFER_HIGH_WATER and not self._complete:
            await self._paused.clear()
            await self._paused.wait()

    async def pop(self, max_length: int) -> bytes:
        length = min(len(self.buffer), max_length)
        data = bytes(self.buffer[:length])
        del self.buffer[:length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


class _Http2Frames(FrameBuffer):
    """Refuses a frame that is too long when it begins, and not when all of it has been buffered."""

    @property
    def is_partial(self) -> bool:
        """Whether a frame, or the header block that frames make up, has begun and is not complete."""
        return bool(self._data) or bool(self._headers_buffer)

    def __next__(self) -> Frame:
        if len(self._data) >= _FRAME_LENGTH_BYTES:
            self._validate_frame_length(int.from_bytes(self._data[:_FRAME_LENGTH_BYTES]))
        return super().__next__()


def _is_complete(request: RequestReceived) -> bool:
    """Whether the request has the headers that hypercorn expects. CONNECT is for websockets only (RFC 8441)."""
    parts: dict[bytes, bytes] = dict(request.headers)
    method, path = parts.get(b":method", b""), parts.get(b":path", b"")
    host = parts.get(b":authority", parts.get(b"host", b""))
    if method == b"CONNECT" and parts.get(b":protocol") != b"websocket":
        return False
    if len(request.headers) > MAX_HEADERS:
        return False
    return method.isalpha() and path.isascii() and path != b"" and HOST.fullmatch(host) is not None
