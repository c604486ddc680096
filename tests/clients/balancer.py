"""A small load balancer in front of gateways, which cuts connections when a test says so."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.servers import HOST

_CLIENT = re.compile(rb"^GET \S+[?&]client=(\w+)")
_CHUNK = 64 * 1024
_ASK_SECONDS = 0.25


class Balancer:
    """Forwards each connection to one of the gateways that say they are ready, chosen at random.

    A client that names itself in its address (``?client=7``) can be cut by that name.
    """

    def __init__(self, ports: Sequence[int], *, seed: int = 0) -> None:
        self._ready = dict.fromkeys(ports, True)
        self._random = random.Random(seed)
        self._connections: dict[str, set[asyncio.StreamWriter]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0, backlog=4096)
        self._asking = [asyncio.create_task(self._keep_asking(port)) for port in self._ready]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [*self._asking, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"{HOST}:{self._server.sockets[0].getsockname()[1]}"

    def cut(self, client: str = "") -> int:
        """Cut the client's connections, without a word to either side; how many there were."""
        writers = self._connections.pop(client, set())
        for writer in writers:
            writer.transport.abort()
        return len(writers)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._carry(reader, writer)
        except asyncio.CancelledError:
            pass  # the balancer closes
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n")
        named = _CLIENT.match(head)
        name = named[1].decode() if named else ""
        to_reader, to_writer = await self._upstream()
        pair = {writer, to_writer}
        self._connections.setdefault(name, set()).update(pair)
        try:
            to_writer.write(head)
            await asyncio.wait(
                (
                    asyncio.create_task(_pump(reader, to_writer)),
                    asyncio.create_task(_pump(to_reader, writer)),
                )
            )
        finally:
            self._connections.get(name, set()).difference_update(pair)
            to_writer.transport.abort()

    async def _keep_asking(self, port: int) -> None:
        while True:
            self._ready[port] = await _is_ready(port)
            await asyncio.sleep(_ASK_SECONDS)

    async def _upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ports = list(self._ready)
        self._random.shuffle(ports)
        for port in sorted(ports, key=lambda port: not self._ready[port]):  # one that is not, rather than none
            with suppress(ConnectionError):
                return await asyncio.open_connection(HOST, port)
        raise ConnectionRefusedError("No gateway answers.")


async def _is_ready(port: int) -> bool:
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: balancer\r\nconnection: close\r\n\r\n")
            return b" 200 " in await reader.readline()
    except (OSError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the one side ends; then the other side is told."""
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    if not writer.is_closing():
        with suppress(OSError):
            writer.close()
