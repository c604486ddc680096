"""Thousands who come to stay at one moment are let in a few at a time, and whoever comes for an answer passes them."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial

import pytest

from gateway.door import Arrival, Door
from tests.servers import HOST

UPGRADE = b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
QUESTION = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Host:
    """Notes the order in which connections are let in, and then hangs up; each keeps the loop busy for a while."""

    def __init__(self, expected: int) -> None:
        self.door = Door()
        self.let_in: list[int] = []
        self.all_are_in = asyncio.Event()
        self._expected = expected

    def arriving(self) -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(Arrival(self.door, limit=1024), self._connected)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.door.let_in(reader, partial(self._begin, writer))

    def _begin(self, writer: asyncio.StreamWriter) -> None:
        busy()
        self.let_in.append(writer.get_extra_info("peername")[1])
        writer.close()
        if len(self.let_in) == self._expected:
            self.all_are_in.set()


def busy(seconds: float = 0.005) -> None:
    time.sleep(seconds)


async def ports_of(host: Host, *messages: bytes) -> list[int]:
    """Of connections that send these, once all have been let in."""
    server = await asyncio.get_running_loop().create_server(host.arriving, HOST, 0, backlog=1000)
    port = server.sockets[0].getsockname()[1]
    async with server:
        connected = await asyncio.gather(*(asyncio.open_connection(HOST, port) for _ in messages))
        ports = []
        for (_, writer), message in zip(connected, messages, strict=True):
            ports.append(writer.get_extra_info("sockname")[1])
            if message:
                writer.write(message)
        async with asyncio.timeout(20):
            await host.all_are_in.wait()
        for _, writer in connected:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
    return ports


@pytest.mark.parametrize("message", [UPGRADE, QUESTION, b""], ids=["to stay", "for an answer", "to say nothing"])
async def test_everybody_is_let_in_once(message: bytes) -> None:
    host = Host(50)
    assert sorted(await ports_of(host, *([message] * 50))) == sorted(host.let_in)


async def test_a_few_are_let_in_in_each_turn_the_newest_first_and_one_while_turns_are_long() -> None:
    door, let_in = Door(), list[int]()
    for number in range(30):
        door.let_in(number, partial(let_in.append, number))
    await asyncio.sleep(0)
    first = list(let_in)
    busy(0.05)
    await asyncio.sleep(0)
    assert first == list(range(29, 21, -1))
    assert let_in == [*first, 21]
    for _ in range(30):
        await asyncio.sleep(0)
    assert sorted(let_in) == list(range(30))


async def test_who_comes_for_an_answer_passes_those_who_come_to_stay() -> None:
    door, let_in = Door(), list[str]()
    staying = [Arrival(door, limit=1024) for _ in range(200)]
    asking = Arrival(door, limit=1024)
    door.let_in(asking, partial(let_in.append, "asking"))
    for number, each in enumerate(staying):
        door.let_in(each, partial(let_in.append, f"staying {number}"))
    for each in staying:
        each.feed_data(UPGRADE)
    assert let_in == []
    asking.feed_data(QUESTION)
    assert let_in == ["asking"]
    asking.feed_data(QUESTION)
    for _ in range(300):
        await asyncio.sleep(0)
    assert len(let_in) == 201
    assert let_in.count("asking") == 1
