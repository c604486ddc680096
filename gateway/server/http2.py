"""The HTTP/2 protocol of hypercorn, with limits on control frames, heads and buffers."""

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

from gateway.server.request_head import HOST, MAX_HEAD_BYTES, MAX_HEADERS
from infrastructure.limits.rate_limit import TokenBucket

_FRAME_LENGTH_BYTES = 3
_CONTROL_FRAMES_PER_MINUTE = 400
"""Frames of one connection that carry no part of a request or response. Each complete response refunds one."""
_HEADER_TABLE_BYTES = 4096
"""Limit of the table of sent headers. Each header is searched in it, so that a larger table of the peer is not used."""


class Http2(H2Protocol):
    """The protocol of one connection that uses HTTP/2. It ignores priorities, which RFC 9113 deprecates."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._frames = self.connection.incoming_buffer = _Http2Frames(server=True)
        self.connection.decoder.max_header_list_size = MAX_HEAD_BYTES
        self.stream_buffers = _StreamBuffers(self.context.event_class)
        self._has_settings = False
        self._control_frames = TokenBucket(_CONTROL_FRAMES_PER_MINUTE, 60)

    async def handle(self, event: Event) -> None:
        """Handle an event of the connection; after its end release the buffers of its streams."""
        await super().handle(event)
        if isinstance(event, Closed):
            for buffer in list(self.stream_buffers.values()):  # in which responses wait for a peer that has left
                await buffer.close()

    @property
    def has_partial_head(self) -> bool:
        """Whether a frame, or the initial settings of the client, have not arrived completely.

        False while requests are in progress, because the frames of their bodies may arrive in parts.
        """
        return not self.streams and (self._frames.is_partial or not self._has_settings)

    async def stream_send(self, event: StreamEvent) -> None:
        """Send an event of a stream; reset a stream whose application has ended without a complete response."""
        if not isinstance(event, StreamClosed) or event.stream_id not in self.streams:
            await super().stream_send(event)
            return
        self._control_frames.refund()
        await super().stream_send(event)
        buffer = self.stream_buffers.get(event.stream_id)
        if buffer is not None and not buffer.complete:
            await self._reset_incomplete(event.stream_id)

    async def _reset_incomplete(self, stream_id: int) -> None:
        """Reset a stream whose application has ended without a last message, for which its client would wait."""
        with suppress(ProtocolError):  # the peer has ended the connection
            self.connection.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
        await self._flush()
        await self._window_updated(stream_id)  # wakes the sending task, which removes the stream

    async def _handle_events(self, events: list[Http2Event]) -> None:
        """Handle one event at a time, because each may close the stream of the next one."""
        for event in events:
            if self._is_control_frame(event) and not self._control_frames.consume(asyncio.get_running_loop().time()):
                self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
                await self._flush()
                await self.send(Closed())
                return
            if isinstance(event, RequestReceived) and not _is_valid_request(event):
                self.connection.reset_stream(event.stream_id, ErrorCodes.PROTOCOL_ERROR)
                await self._flush()
            elif isinstance(event, DataReceived) and event.stream_id not in self.streams:
                # The rest of a refused body is acknowledged, so that the window of the other streams is restored.
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                await self._flush()
            elif not isinstance(event, PriorityUpdated):
                await super()._handle_events([event])
            if isinstance(event, RemoteSettingsChanged):
                self._has_settings = True
                encoder = self.connection.encoder
                encoder.header_table_size = min(encoder.header_table_size, _HEADER_TABLE_BYTES)

    def _is_control_frame(self, event: Http2Event) -> bool:
        """Return whether the event carries no part of a request, but costs processor time."""
        match event:
            case DataReceived():
                return not event.data and event.stream_ended is None
            case StreamReset():
                return event.stream_id in self.streams
        return isinstance(event, PingReceived | PriorityUpdated | RemoteSettingsChanged | UnknownFrameReceived)


class _StreamBuffers(dict[int, StreamBuffer]):
    """The buffers of a connection's streams: a _BlockingBuffer replaces each buffer that hypercorn adds."""

    def __init__(self, event_class: type[IOEvent]) -> None:
        super().__init__()
        self._event_class = event_class

    def __setitem__(self, stream_id: int, _: StreamBuffer) -> None:
        super().__setitem__(stream_id, _BlockingBuffer(self._event_class))


class _BlockingBuffer(StreamBuffer):
    """The send buffer of a stream. While it is full, the application waits.

    hypercorn's own buffer wakes the application at each attempt to send, so that the whole response of a client that
    does not read would be buffered.
    """

    async def push(self, data: bytes) -> None:
        """Add data, and wait until the buffer is below its limit.

        Raises:
            BufferCompleteError: the stream has ended.
        """
        if self._complete:
            raise BufferCompleteError()
        self.buffer.extend(data)
        await self._is_empty.clear()
        while len(self.buffer) >= BUFFER_HIGH_WATER and not self._complete:
            await self._paused.clear()
            await self._paused.wait()

    async def pop(self, max_length: int) -> bytes:
        """Remove and return up to ``max_length`` bytes, and wake the application if the buffer has room."""
        length = min(len(self.buffer), max_length)
        data = bytes(self.buffer[:length])
        del self.buffer[:length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


class _Http2Frames(FrameBuffer):
    """A frame buffer that refuses a frame that is too long when its header arrives, before the frame is buffered."""

    @property
    def is_partial(self) -> bool:
        """Whether a frame or a header block has begun and is not complete."""
        return bool(self._data) or bool(self._headers_buffer)

    def __next__(self) -> Frame:
        if len(self._data) >= _FRAME_LENGTH_BYTES:
            self._validate_frame_length(int.from_bytes(self._data[:_FRAME_LENGTH_BYTES]))
        return super().__next__()


def _is_valid_request(request: RequestReceived) -> bool:
    """Return whether the request has the pseudo-headers that hypercorn requires, and not too many headers.

    The method CONNECT is allowed for websockets only (RFC 8441).
    """
    parts: dict[bytes, bytes] = dict(request.headers)
    method, path = parts.get(b":method", b""), parts.get(b":path", b"")
    host = parts.get(b":authority", parts.get(b"host", b""))
    if method == b"CONNECT" and parts.get(b":protocol") != b"websocket":
        return False
    if len(request.headers) > MAX_HEADERS:
        return False
    return method.isalpha() and path.isascii() and path != b"" and HOST.fullmatch(host) is not None
