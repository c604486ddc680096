"""Idle connections stay open for KEEP_ALIVE_SECONDS, longer than load balancers keep them, and are then closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.gateway.fakes import FakeServices, settings
from tests.gateway.live_gateway import Gateway, running_gateway, wait_until

HYPERCORN_KEEP_ALIVE_SECONDS = 5
LOAD_BALANCER_SECONDS = 60
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def gateway_with_keep_alive(seconds: float, temporal_address: str, folder: Path) -> AsyncIterator[Gateway]:
    """Run a gateway with this keep-alive time in seconds."""
    gateway_settings = settings(temporal_address, data_dir=folder)
    async with running_gateway(gateway_settings, FakeServices(), keep_alive_seconds=seconds) as gateway:
        yield gateway


async def execute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes = REQUEST) -> bytes:
    """Send a request on the connection and return the status line."""
    writer.write(request)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return head.partition(b"\r\n")[0]


async def seconds_until_closed(reader: asyncio.StreamReader) -> float:
    """Return the seconds until the server closes the connection."""
    sent = time.monotonic()
    assert await asyncio.wait_for(reader.read(), 30) == b""
    return time.monotonic() - sent


def test_default_keep_alive_outlasts_the_idle_timeout_of_load_balancers() -> None:
    assert settings("127.0.0.1:1").keep_alive_seconds == 75 > LOAD_BALANCER_SECONDS


@pytest.mark.parametrize("http2", [False, True])
async def test_reuses_a_connection_that_was_idle_longer_than_the_default_of_hypercorn(
    temporal_address: str, tmp_path: Path, http2: bool
) -> None:
    keep_alive = settings(temporal_address).keep_alive_seconds
    limits = httpx.Limits(keepalive_expiry=None)
    async with (
        gateway_with_keep_alive(keep_alive, temporal_address, tmp_path) as gateway,
        httpx.AsyncClient(base_url=gateway.http, limits=limits, http1=not http2, http2=http2) as client,
    ):
        connections = set()
        for pause in (0, HYPERCORN_KEEP_ALIVE_SECONDS + 1.5):
            await asyncio.sleep(pause)
            response = await client.get("/healthz")
            assert response.status_code == 200
            connections.add(response.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(connections) == 1


async def test_closes_an_idle_connection_after_the_keep_alive_time(temporal_address: str, tmp_path: Path) -> None:
    async with gateway_with_keep_alive(1.5, temporal_address, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        for _ in range(3):  # each request restarts the keep-alive time
            assert await execute(reader, writer) == b"HTTP/1.1 200 "
            await asyncio.sleep(0.9)
        assert 0.3 < await seconds_until_closed(reader) < 3
        writer.close()

        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        assert 1 < await seconds_until_closed(reader) < 4, "a connection without any request"
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: loc", id="the first request"),
        pytest.param(REQUEST + b"GET /healthz HTTP/1.1\r\nHost: loc", id="a request behind another"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\x08\x06\0\0\0\0\0half", id="a frame"),
    ],
)
async def test_closes_a_connection_whose_request_head_stays_incomplete(
    temporal_address: str, tmp_path: Path, sent: bytes
) -> None:
    async with gateway_with_keep_alive(75, temporal_address, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(sent)
        started = time.monotonic()
        await asyncio.wait_for(reader.read(), 30)
        assert time.monotonic() - started < 10
        writer.close()


@pytest.mark.parametrize("http2", [False, True])
async def test_closes_a_connection_whose_client_has_closed_it(
    temporal_address: str, tmp_path: Path, http2: bool
) -> None:
    async with gateway_with_keep_alive(75, temporal_address, tmp_path) as gateway:
        before = len(asyncio.all_tasks())
        for _ in range(10):
            async with httpx.AsyncClient(
                http1=not http2, http2=http2, base_url=gateway.http, trust_env=False
            ) as client:
                assert (await client.get("/healthz")).status_code == 200
        silent = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(10)]
        for _, writer in silent:
            writer.close()
        await wait_until(lambda: len(asyncio.all_tasks()) <= before, 5)


async def test_idle_time_before_a_request_does_not_extend_the_time_for_its_head(
    temporal_address: str, tmp_path: Path
) -> None:
    async with gateway_with_keep_alive(75, temporal_address, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        assert await execute(reader, writer) == b"HTTP/1.1 200 "
        writer.write(REQUEST[:20])
        await asyncio.sleep(1)
        assert await execute(reader, writer, REQUEST[20:]) == b"HTTP/1.1 200 "
        writer.write(REQUEST[:20])
        assert await seconds_until_closed(reader) < 10
        writer.close()
