"""Many websockets that connect at once start a few at a time, and plain requests overtake them."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial

import pytest

from gateway.server.accept_queue import AcceptQueue, PrioritizedStreamReader
from tests.servers import HOST

UPGRADE = b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Host:
    """A server that records the order in which connections start and closes each; each start blocks the event loop
    briefly.
    """

    def __init__(self, expected: int) -> None:
        self.queue = AcceptQueue()
        self.started: list[int] = []
        self.all_have_started = asyncio.Event()
        self._expected = expected

    def protocol(self) -> asyncio.StreamReaderProtocol:
        """Return the protocol of a new connection."""
        return asyncio.StreamReaderProtocol(PrioritizedStreamReader(self.queue, limit=1024), self._connected)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.queue.enqueue(reader, partial(self._begin, writer))

    def _begin(self, writer: asyncio.StreamWriter) -> None:
        block_event_loop()
        self.started.append(writer.get_extra_info("peername")[1])
        writer.close()
        if len(self.started) == self._expected:
            self.all_have_started.set()


def block_event_loop(seconds: float = 0.005) -> None:
    """Block the event loop for this many seconds."""
    time.sleep(seconds)


async def ports_of(host: Host, *messages: bytes) -> list[int]:
    """Return the ports of connections that send these messages, after all have started."""
    server = await asyncio.get_running_loop().create_server(host.protocol, HOST, 0, backlog=1000)
    port = server.sockets[0].getsockname()[1]
    async with server:
        connected = await asyncio.gather(*(asyncio.open_connection(HOST, port) for _ in messages))
        ports = []
        for (_, writer), message in zip(connected, messages, strict=True):
            ports.append(writer.get_extra_info("sockname")[1])
            if message:
                writer.write(message)
        async with asyncio.timeout(20):
            await host.all_have_started.wait()
        for _, writer in connected:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
    return ports


@pytest.mark.parametrize("message", [UPGRADE, REQUEST, b""], ids=["websocket", "request", "no bytes"])
async def test_every_connection_starts_once(message: bytes) -> None:
    host = Host(50)
    assert sorted(await ports_of(host, *([message] * 50))) == sorted(host.started)


async def test_starts_few_per_iteration_newest_first_and_one_while_iterations_are_long() -> None:
    queue, started = AcceptQueue(), list[int]()
    for number in range(30):
        queue.enqueue(number, partial(started.append, number))
    await asyncio.sleep(0)
    first_iteration = list(started)
    block_event_loop(0.05)
    await asyncio.sleep(0)
    assert first_iteration == list(range(29, 21, -1))
    assert started == [*first_iteration, 21]
    for _ in range(30):
        await asyncio.sleep(0)
    assert sorted(started) == list(range(30))


async def test_plain_request_overtakes_waiting_websockets() -> None:
    queue, started = AcceptQueue(), list[str]()
    websocket = [PrioritizedStreamReader(queue, limit=1024) for _ in range(200)]
    request = PrioritizedStreamReader(queue, limit=1024)
    queue.enqueue(request, partial(started.append, "request"))
    for number, each in enumerate(websocket):
        queue.enqueue(each, partial(started.append, f"websocket {number}"))
    for each in websocket:
        each.feed_data(UPGRADE)
    assert started == []
    request.feed_data(REQUEST)
    assert started == ["request"]
    request.feed_data(REQUEST)
    for _ in range(300):
        await asyncio.sleep(0)
    assert len(started) == 201
    assert started.count("request") == 1
