"""The proxy simulates each of the network conditions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.servers import HOST
from tools.chaos.proxy import DOWN, NORMAL, RESETTING, STALLED, NetworkConditions, Proxy


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy before an echo server that closes the connection at the end of the input."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, HOST, 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as between:
        yield between
        await between.set_conditions(DOWN)


async def measure_echo(proxy: Proxy, text: bytes = b"hello") -> float:
    """Return the seconds until the text is echoed."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        writer.write(text)
        assert await reader.readexactly(len(text)) == text
    finally:
        writer.close()
    return time.monotonic() - started


async def test_forwards_data(proxy: Proxy) -> None:
    await measure_echo(proxy)


async def test_delays_data_in_both_directions(proxy: Proxy) -> None:
    await proxy.set_conditions(NetworkConditions(latency=0.2))
    assert await measure_echo(proxy) >= 0.4


async def test_limits_bandwidth(proxy: Proxy) -> None:
    await proxy.set_conditions(NetworkConditions(bandwidth=10_000))
    assert await measure_echo(proxy, b"x" * 2_000) >= 0.4


async def test_stalls_until_the_conditions_change(proxy: Proxy) -> None:
    await proxy.set_conditions(STALLED)
    waiting = asyncio.create_task(measure_echo(proxy))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await proxy.set_conditions(NORMAL)
    assert await waiting >= 0.3


async def test_closes_the_port_and_reopens_it(proxy: Proxy) -> None:
    port = proxy.port
    await proxy.set_conditions(DOWN)
    with pytest.raises(ConnectionRefusedError):
        await measure_echo(proxy)
    await proxy.set_conditions(NORMAL)
    assert proxy.port == port
    await measure_echo(proxy)


async def test_resets_open_and_new_connections(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write(b"a")
    await reader.readexactly(1)
    await proxy.set_conditions(RESETTING)
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await measure_echo(proxy)


async def test_resets_a_connection_after_a_number_of_bytes(proxy: Proxy) -> None:
    await proxy.set_conditions(NetworkConditions(reset_after=20))
    await measure_echo(proxy)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await measure_echo(proxy, b"x" * 30)


async def test_delays_the_end_of_a_connection(proxy: Proxy) -> None:
    await proxy.set_conditions(NetworkConditions(close_delay=0.3))
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write_eof()
    started = time.monotonic()
    assert await reader.read() == b""
    assert time.monotonic() - started >= 0.3
    writer.close()


async def test_forgets_closed_connections(proxy: Proxy) -> None:
    for _ in range(20):
        await measure_echo(proxy)
    async with asyncio.timeout(5):
        while proxy.open_connections:  # noqa: ASYNC110 - connections end by themselves
            await asyncio.sleep(0.01)
