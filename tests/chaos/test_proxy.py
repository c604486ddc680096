"""The proxy plays each weather that it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.servers import HOST
from tools.chaos.proxy import DOWN, NORMAL, RESETTING, STALLED, NetworkConditions, Proxy


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Before a server that says again what it is told, and goodbye at the end."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, HOST, 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as between:
        yield between
        await between.set_conditions(DOWN)


async def echoed(proxy: Proxy, text: bytes = b"hello") -> float:
    """Seconds until it came back."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        writer.write(text)
        assert await reader.readexactly(len(text)) == text
    finally:
        writer.close()
    return time.monotonic() - started


async def test_carries_what_is_said(proxy: Proxy) -> None:
    await echoed(proxy)


async def test_takes_its_time_each_way(proxy: Proxy) -> None:
    await proxy.set_conditions(NetworkConditions(latency=0.2))
    assert await echoed(proxy) >= 0.4


async def test_is_narrow(proxy: Proxy) -> None:
    await proxy.set_conditions(NetworkConditions(bandwidth=10_000))
    assert await echoed(proxy, b"x" * 2_000) >= 0.4


async def test_is_silent_until_the_weather_changes(proxy: Proxy) -> None:
    await proxy.set_conditions(STALLED)
    waiting = asyncio.create_task(echoed(proxy))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await proxy.set_conditions(NORMAL)
    assert await waiting >= 0.3


async def test_is_not_there_and_comes_back_at_the_same_port(proxy: Proxy) -> None:
    port = proxy.port
    await proxy.set_conditions(DOWN)
    with pytest.raises(ConnectionRefusedError):
        await echoed(proxy)
    await proxy.set_conditions(NORMAL)
    assert proxy.port == port
    await echoed(proxy)


async def test_resets_what_is_open_and_what_comes(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write(b"a")
    await reader.readexactly(1)
    await proxy.set_conditions(RESETTING)
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await echoed(proxy)


async def test_lets_some_bytes_through_before_it_resets(proxy: Proxy) -> None:
    await proxy.set_conditions(NetworkConditions(reset_after=20))
    await echoed(proxy)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await echoed(proxy, b"x" * 30)


async def test_is_late_to_tell_of_an_end(proxy: Proxy) -> None:
    await proxy.set_conditions(NetworkConditions(close_delay=0.3))
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write_eof()
    started = time.monotonic()
    assert await reader.read() == b""
    assert time.monotonic() - started >= 0.3
    writer.close()


async def test_holds_nothing_once_it_is_left(proxy: Proxy) -> None:
    for _ in range(20):
        await echoed(proxy)
    async with asyncio.timeout(5):
        while proxy.open_connections:  # noqa: ASYNC110 - connections end by themselves
            await asyncio.sleep(0.01)
