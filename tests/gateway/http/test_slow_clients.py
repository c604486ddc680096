"""Clients that begin a request and do not end it hold nothing open."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.gateway.fakes import Services, settings
from tests.gateway.live_gateway import running_gateway


async def test_headers_that_do_not_end_are_not_waited_for(temporal_address: str, tmp_path: Path) -> None:
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), Services()) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        begun = time.monotonic()
        writer.write(b"POST /graphql HTTP/1.1\r\nHost: localhost\r\n")
        dripping = asyncio.create_task(_drip(writer))
        assert await asyncio.wait_for(reader.read(), 30) == b""
        assert time.monotonic() - begun < 10
        dripping.cancel()
        writer.close()


async def test_the_rest_of_a_body_that_is_too_large_is_taken_so_that_its_sender_can_read_why(
    temporal_address: str, tmp_path: Path
) -> None:
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), Services()) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        size = 1_000_000
        head = (
            "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {size}\r\n\r\n"
        )
        writer.write(head.encode() + b" " * size)
        answer = await asyncio.wait_for(reader.read(5_000), 30)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"The body is larger than 256 KiB." in answer
        writer.close()


async def _drip(writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        await asyncio.sleep(0.5)
        writer.write(b"x-more: 1\r\n")
