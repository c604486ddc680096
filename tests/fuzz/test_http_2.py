"""Floods of HTTP/2 frames, each of them allowed: they end their connection, cost a moment, and leave nothing behind."""

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

from tests.gateway.live_gateway import Gateway, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = 9
CLOSE_REASON = b"WebSocket message must be valid JSON"


class Peer:
    """Says what it is told to, and takes what comes apart."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._encoder = Encoder()

    def request(self, stream: int, path: str = "/healthz", *others: tuple[str, str], ends: bool = True) -> Frame:
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
        """RFC 8441."""
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

    async def say(self, frames: Iterable[Frame]) -> None:
        self._writer.write(b"".join(frame.serialize() for frame in frames))
        await self._writer.drain()

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def next(self) -> Frame:
        """Raises IncompleteReadError once the gateway has hung up."""
        frame, length = Frame.parse_frame_header(memoryview(await self._reader.readexactly(HEAD)))
        frame.parse_body(memoryview(await self._reader.readexactly(length)))
        return frame

    async def end(self) -> int | None:
        """The reason that the gateway gives for hanging up."""
        reason = None
        async with asyncio.timeout(15):
            try:
                while True:
                    if isinstance(frame := await self.next(), GoAwayFrame):
                        reason = frame.error_code
            except (asyncio.IncompleteReadError, ConnectionError):
                return reason

    async def answered(self, stream: int) -> HeadersFrame:
        async with asyncio.timeout(15):
            while True:
                frame = await self.next()
                if isinstance(frame, HeadersFrame) and frame.stream_id == stream:
                    return frame


@asynccontextmanager
async def connected(gateway: Gateway, settings: dict[int, int] | None = None) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(PREFACE + SettingsFrame(0, settings or {}).serialize())
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


def resets(peer: Peer) -> Iterable[Frame]:
    for stream in range(1, 2001, 2):
        yield peer.request(stream)
        yield RstStreamFrame(stream, ErrorCodes.CANCEL)


def priorities(_: Peer) -> Iterable[Frame]:
    return (PriorityFrame(stream, stream_weight=1, exclusive=True) for stream in range(1, 5001, 2))


def empty_pieces(peer: Peer) -> Iterable[Frame]:
    return [peer.request(1, ends=False), *[DataFrame(1)] * 2000]


FLOODS = {
    "resets": resets,
    "priorities": priorities,
    "empty pieces of a body": empty_pieces,
    "pings": lambda _: [PingFrame(0, b"12345678")] * 2000,
    "settings": lambda _: [SettingsFrame(0, {SettingCodes.INITIAL_WINDOW_SIZE: n}) for n in range(2000)],
    "frames that nobody knows": lambda _: [ExtensionFrame(type=0x42, stream_id=0)] * 2000,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_frames_that_only_make_work_end_the_connection(gateway: Gateway, flood: object) -> None:
    assert callable(flood)
    async with connected(gateway) as peer:
        await peer.say(flood(peer))
        assert await peer.end() == ErrorCodes.ENHANCE_YOUR_CALM
    async with connected(gateway) as decent:
        await decent.say([decent.request(1)])
        await decent.answered(1)


async def test_a_peer_that_hears_most_out_may_reset_the_rest(gateway: Gateway) -> None:
    async with connected(gateway) as peer:
        for stream in range(1, 6401, 4):
            await peer.say([peer.request(stream), peer.request(stream + 2), RstStreamFrame(stream + 2)])
            await peer.answered(stream)


async def test_answers_that_nobody_takes_are_forgotten_with_their_connection(gateway: Gateway) -> None:
    before = len(asyncio.all_tasks())
    async with connected(gateway, {SettingCodes.INITIAL_WINDOW_SIZE: 0}) as peer:
        await peer.say(peer.request(stream, "/graphql/schema") for stream in range(1, 101, 2))
        await peer.answered(99)
        assert len(asyncio.all_tasks()) > before + 40
    await until(lambda: len(asyncio.all_tasks()) <= before, 5)


async def test_what_is_remembered_of_sent_headers_is_bounded_whatever_the_peer_offers(gateway: Gateway) -> None:
    decoder = Decoder()
    decoder.max_allowed_table_size = 2**32 - 1
    async with connected(gateway, {SettingCodes.HEADER_TABLE_SIZE: 2**32 - 1}) as peer:
        await peer.say([peer.request(1)])
        assert (b":status", b"200") in list(decoder.decode((await peer.answered(1)).data, raw=True))
    assert decoder.header_table_size == 4096


async def test_stream_of_a_websocket_ends_behind_its_close_frame(gateway: Gateway) -> None:
    masked_text = b"\x81\x81" + bytes(4) + b"x"  # no JSON
    close = b"\x88" + bytes((2 + len(CLOSE_REASON),)) + (4400).to_bytes(2) + CLOSE_REASON
    received = b""
    async with connected(gateway) as peer:
        await peer.say([peer.websocket(1)])
        await peer.answered(1)
        await peer.say([DataFrame(1, masked_text)])
        async with asyncio.timeout(15):
            while not isinstance(frame := await peer.next(), DataFrame) or "END_STREAM" not in frame.flags:
                assert not isinstance(frame, RstStreamFrame)
                received += frame.data if isinstance(frame, DataFrame) else b""
    assert received + frame.data == close


async def test_priorities_are_ignored(gateway: Gateway) -> None:
    """hypercorn would keep each prioritized stream, and fail at the thousand and first."""
    async with connected(gateway) as peer:
        for number in range(1100):
            await peer.say([PriorityFrame(100_001 + 2 * number, stream_weight=1), peer.request(2 * number + 1)])
            await peer.answered(2 * number + 1)


async def test_frame_that_is_too_long_is_refused_when_it_begins(gateway: Gateway) -> None:
    async with connected(gateway) as peer:
        await peer.say([peer.request(1, ends=False)])
        peer.write((2**24 - 1).to_bytes(3) + b"\0\0" + (1).to_bytes(4))
        async with asyncio.timeout(3):
            assert await peer.end() == ErrorCodes.FRAME_SIZE_ERROR


async def test_a_head_of_too_many_headers_is_refused(gateway: Gateway) -> None:
    async with connected(gateway) as peer:
        await peer.say([peer.request(1, "/healthz", *[(f"x{n}", "") for n in range(120)])])
        while not isinstance(frame := await peer.next(), RstStreamFrame):
            pass
        assert frame.stream_id == 1
        await peer.say([peer.request(3, "/healthz", *[(f"x{n}", "") for n in range(1200)])])
        assert await peer.end() == ErrorCodes.ENHANCE_YOUR_CALM
