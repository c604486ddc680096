"""Idle connections stay open for KEEP_ALIVE_SECONDS, longer than a load balancer keeps them, and no longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.gateway.fakes import Services, settings
from tests.gateway.live_gateway import Gateway, running_gateway, until

HYPERCORNS_OWN_SECONDS = 5
LOAD_BALANCER_SECONDS = 60
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def gateway_that_keeps(seconds: float, temporal_address: str, folder: Path) -> AsyncIterator[Gateway]:
    configured = settings(temporal_address, data_dir=folder)
    async with running_gateway(configured, Services(), keep_alive_seconds=seconds) as gateway:
        yield gateway


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes = REQUEST) -> bytes:
    writer.write(request)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return head.partition(b"\r\n")[0]


async def seconds_until_closed(reader: asyncio.StreamReader) -> float:
    begun = time.monotonic()
    assert await asyncio.wait_for(reader.read(), 30) == b""
    return time.monotonic() - begun


def test_the_default_outlasts_the_idle_time_of_load_balancers() -> None:
    assert settings("127.0.0.1:1").keep_alive_seconds == 75 > LOAD_BALANCER_SECONDS


@pytest.mark.parametrize("http2", [False, True])
async def test_a_connection_that_was_idle_for_longer_than_hypercorn_keeps_one_is_used_again(
    temporal_address: str, tmp_path: Path, http2: bool
) -> None:
    kept = settings(temporal_address).keep_alive_seconds
    limits = httpx.Limits(keepalive_expiry=None)
    async with (
        gateway_that_keeps(kept, temporal_address, tmp_path) as gateway,
        httpx.AsyncClient(base_url=gateway.http, limits=limits, http1=not http2, http2=http2) as client,
    ):
        connections = set()
        for pause in (0, HYPERCORNS_OWN_SECONDS + 1.5):
            await asyncio.sleep(pause)
            answer = await client.get("/healthz")
            assert answer.status_code == 200
            connections.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(connections) == 1


async def test_an_idle_connection_is_closed_in_the_end(temporal_address: str, tmp_path: Path) -> None:
    async with gateway_that_keeps(1.5, temporal_address, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        for _ in range(3):  # each request begins the time anew
            assert await ask(reader, writer) == b"HTTP/1.1 200 "
            await asyncio.sleep(0.9)
        assert 0.3 < await seconds_until_closed(reader) < 3
        writer.close()

        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        assert 1 < await seconds_until_closed(reader) < 4, "one that never says anything"
        writer.close()


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: loc", id="the first request"),
        pytest.param(REQUEST + b"GET /healthz HTTP/1.1\r\nHost: loc", id="a request behind another"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\x08\x06\0\0\0\0\0half", id="a frame"),
    ],
)
async def test_a_head_has_no_more_time_than_before(temporal_address: str, tmp_path: Path, begun: bytes) -> None:
    async with gateway_that_keeps(75, temporal_address, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(begun)
        started = time.monotonic()
        await asyncio.wait_for(reader.read(), 30)
        assert time.monotonic() - started < 10
        writer.close()


@pytest.mark.parametrize("http2", [False, True])
async def test_a_connection_whose_peer_leaves_is_not_kept(temporal_address: str, tmp_path: Path, http2: bool) -> None:
    async with gateway_that_keeps(75, temporal_address, tmp_path) as gateway:
        before = len(asyncio.all_tasks())
        for _ in range(10):
            async with httpx.AsyncClient(
                http1=not http2, http2=http2, base_url=gateway.http, trust_env=False
            ) as client:
                assert (await client.get("/healthz")).status_code == 200
        silent = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(10)]
        for _, writer in silent:
            writer.close()
        await until(lambda: len(asyncio.all_tasks()) <= before, 5)


async def test_a_kept_connection_may_begin_a_request_late_and_must_end_its_head_soon(
    temporal_address: str, tmp_path: Path
) -> None:
    async with gateway_that_keeps(75, temporal_address, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        assert await ask(reader, writer) == b"HTTP/1.1 200 "
        writer.write(REQUEST[:20])
        await asyncio.sleep(1)
        assert await ask(reader, writer, REQUEST[20:]) == b"HTTP/1.1 200 "
        writer.write(REQUEST[:20])
        assert await seconds_until_closed(reader) < 10
        writer.close()
