"""Floods of valid HTTP/2 frames end their connection quickly and leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
)

from tests.gateway.live_gateway import Gateway, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER_BYTES = 9
CLOSE_REASON = b"WebSocket message must be valid JSON"


class Peer:
    """An HTTP/2 client that sends arbitrary frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._encoder = Encoder()

    def request(self, stream: int, path: str = "/healthz", *others: tuple[str, str], ends: bool = True) -> Frame:
        """Return a HEADERS frame of a request."""
        pseudo = [
            (":method", "GET" if ends else "POST"),
            (":path", path),
            (":scheme", "http"),
            (":authority", "localhost"),
        ]
        frame = HeadersFrame(stream, self._encoder.encode([*pseudo, *others]))
        frame.flags.add("END_HEADERS")
        if ends:
            frame.flags.add("END_STREAM")
        return frame

    def websocket(self, stream: int) -> Frame:
        """Return a HEADERS frame that opens a websocket (RFC 8441)."""
        head = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":path", "/graphql"),
            (":scheme", "http"),
            (":authority", "localhost"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "graphql-transport-ws"),
        ]
        frame = HeadersFrame(stream, self._encoder.encode(head))
        frame.flags.add("END_HEADERS")
        return frame

    async def send(self, frames: Iterable[Frame]) -> None:
        """Send the frames."""
        self._writer.write(b"".join(frame.serialize() for frame in frames))
        await self._writer.drain()

    def write(self, data: bytes) -> None:
        """Write raw bytes."""
        self._writer.write(data)

    async def receive(self) -> Frame:
        """Return the next frame; raise IncompleteReadError after the gateway has closed the connection."""
        frame, length = Frame.parse_frame_header(memoryview(await self._reader.readexactly(FRAME_HEADER_BYTES)))
        frame.parse_body(memoryview(await self._reader.readexactly(length)))
        return frame

    async def wait_for_close(self) -> int | None:
        """Read until the gateway closes the connection and return the error code of its GOAWAY frame."""
        reason = None
        async with asyncio.timeout(15):
            try:
                while True:
                    if isinstance(frame := await self.receive(), GoAwayFrame):
                        reason = frame.error_code
            except (asyncio.IncompleteReadError, ConnectionError):
                return reason

    async def response_headers(self, stream: int) -> HeadersFrame:
        """Read up to the HEADERS frame of the response on this stream."""
        async with asyncio.timeout(15):
            while True:
                frame = await self.receive()
                if isinstance(frame, HeadersFrame) and frame.stream_id == stream:
                    return frame


@asynccontextmanager
async def connected(gateway: Gateway, settings: dict[int, int] | None = None) -> AsyncIterator[Peer]:
    """Open a connection with these settings."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(PREFACE + SettingsFrame(0, settings or {}).serialize())
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


def reset_streams(peer: Peer) -> Iterable[Frame]:
    """Yield requests that are reset immediately."""
    for stream in range(1, 2001, 2):
        yield peer.request(stream)
        yield RstStreamFrame(stream, ErrorCodes.CANCEL)


def send_priorities(_: Peer) -> Iterable[Frame]:
    """Yield PRIORITY frames of many streams."""
    return (PriorityFrame(stream, stream_weight=1, exclusive=True) for stream in range(1, 5001, 2))


def send_empty_data(peer: Peer) -> Iterable[Frame]:
    """Return a request with many empty DATA frames."""
    return [peer.request(1, ends=False), *[DataFrame(1)] * 2000]


FLOODS = {
    "resets": reset_streams,
    "priorities": send_priorities,
    "empty DATA frames": send_empty_data,
    "pings": lambda _: [PingFrame(0, b"12345678")] * 2000,
    "settings": lambda _: [SettingsFrame(0, {SettingCodes.INITIAL_WINDOW_SIZE: n}) for n in range(2000)],
    "frames of an unknown type": lambda _: [ExtensionFrame(type=0x42, stream_id=0)] * 2000,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_floods_of_frames_end_their_connection(gateway: Gateway, flood: object) -> None:
    assert callable(flood)
    async with connected(gateway) as peer:
        await peer.send(flood(peer))
        assert await peer.wait_for_close() == ErrorCodes.ENHANCE_YOUR_CALM
    async with connected(gateway) as valid_client:
        await valid_client.send([valid_client.request(1)])
        await valid_client.response_headers(1)


async def test_client_that_reads_most_responses_may_reset_the_others(gateway: Gateway) -> None:
    async with connected(gateway) as peer:
        for stream in range(1, 6401, 4):
            await peer.send([peer.request(stream), peer.request(stream + 2), RstStreamFrame(stream + 2)])
            await peer.response_headers(stream)


async def test_unread_responses_are_discarded_with_their_connection(gateway: Gateway) -> None:
    before = len(asyncio.all_tasks())
    async with connected(gateway, {SettingCodes.INITIAL_WINDOW_SIZE: 0}) as peer:
        await peer.send(peer.request(stream, "/graphql/schema") for stream in range(1, 101, 2))
        await peer.response_headers(99)
        assert len(asyncio.all_tasks()) > before + 40
    await wait_until(lambda: len(asyncio.all_tasks()) <= before, 5)


async def test_header_compression_table_is_bounded_for_any_client_setting(gateway: Gateway) -> None:
    decoder = Decoder()
    decoder.max_allowed_table_size = 2**32 - 1
    async with connected(gateway, {SettingCodes.HEADER_TABLE_SIZE: 2**32 - 1}) as peer:
        await peer.send([peer.request(1)])
        assert (b":status", b"200") in list(decoder.decode((await peer.response_headers(1)).data, raw=True))
    assert decoder.header_table_size == 4096


async def test_stream_of_a_websocket_ends_after_its_close_frame(gateway: Gateway) -> None:
    masked_text = b"\x81\x81" + bytes(4) + b"x"  # not JSON
    close = b"\x88" + bytes((2 + len(CLOSE_REASON),)) + (4400).to_bytes(2) + CLOSE_REASON
    received = b""
    async with connected(gateway) as peer:
        await peer.send([peer.websocket(1)])
        await peer.response_headers(1)
        await peer.send([DataFrame(1, masked_text)])
        async with asyncio.timeout(15):
            while not isinstance(frame := await peer.receive(), DataFrame) or "END_STREAM" not in frame.flags:
                assert not isinstance(frame, RstStreamFrame)
                received += frame.data if isinstance(frame, DataFrame) else b""
    assert received + frame.data == close


async def test_ignores_priorities(gateway: Gateway) -> None:
    """hypercorn would store each prioritized stream and fail after a thousand."""
    async with connected(gateway) as peer:
        for number in range(1100):
            await peer.send([PriorityFrame(100_001 + 2 * number, stream_weight=1), peer.request(2 * number + 1)])
            await peer.response_headers(2 * number + 1)


async def test_refuses_an_oversized_frame_when_it_starts(gateway: Gateway) -> None:
    async with connected(gateway) as peer:
        await peer.send([peer.request(1, ends=False)])
        peer.write((2**24 - 1).to_bytes(3) + b"\0\0" + (1).to_bytes(4))
        async with asyncio.timeout(3):
            assert await peer.wait_for_close() == ErrorCodes.FRAME_SIZE_ERROR


async def test_refuses_a_request_with_too_many_headers(gateway: Gateway) -> None:
    async with connected(gateway) as peer:
        await peer.send([peer.request(1, "/healthz", *[(f"x{n}", "") for n in range(120)])])
        while not isinstance(frame := await peer.receive(), RstStreamFrame):
            pass
        assert frame.stream_id == 1
        await peer.send([peer.request(3, "/healthz", *[(f"x{n}", "") for n in range(1200)])])
        assert await peer.wait_for_close() == ErrorCodes.ENHANCE_YOUR_CALM
