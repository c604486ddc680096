"""Clients that start a request and do not complete it are disconnected."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.gateway.fakes import FakeServices, settings
from tests.gateway.live_gateway import running_gateway


async def test_times_out_headers_that_do_not_end(temporal_address: str, tmp_path: Path) -> None:
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), FakeServices()) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        begun = time.monotonic()
        writer.write(b"POST /graphql HTTP/1.1\r\nHost: localhost\r\n")
        sending = asyncio.create_task(_send_headers_slowly(writer))
        assert await asyncio.wait_for(reader.read(), 30) == b""
        assert time.monotonic() - begun < 10
        sending.cancel()
        writer.close()


async def test_reads_the_rest_of_an_oversized_body_so_that_the_client_gets_the_response(
    temporal_address: str, tmp_path: Path
) -> None:
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), FakeServices()) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        size = 1_000_000
        head = (
            "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {size}\r\n\r\n"
        )
        writer.write(head.encode() + b" " * size)
        response = await asyncio.wait_for(reader.read(5_000), 30)
        assert response.startswith(b"HTTP/1.1 413 ")
        assert b"The body is larger than 256 KiB." in response
        writer.close()


async def _send_headers_slowly(writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        await asyncio.sleep(0.5)
        writer.write(b"x-more: 1\r\n")
