"""A small TCP load balancer in front of gateways, which closes connections when a test asks for it."""

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
_PROBE_INTERVAL_SECONDS = 0.25


class Balancer:
    """Forwards each connection to a random gateway that reports readiness.

    A client that names itself in its URL (``?client=7``) can be disconnected by that name.
    """

    def __init__(self, ports: Sequence[int], *, seed: int = 0) -> None:
        self._ready = dict.fromkeys(ports, True)
        self._random = random.Random(seed)
        self._connections: dict[str, set[asyncio.StreamWriter]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._probes: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0, backlog=4096)
        self._probes = [asyncio.create_task(self._probe_readiness(port)) for port in self._ready]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [*self._probes, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        """Host and port on which the balancer listens."""
        assert self._server is not None
        return f"{HOST}:{self._server.sockets[0].getsockname()[1]}"

    def cut(self, client: str = "") -> int:
        """Abort all connections of the client and return their number."""
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
                await self._forward(reader, writer)
        except asyncio.CancelledError:
            pass  # the balancer is closing
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n")
        client_match = _CLIENT.match(head)
        name = client_match[1].decode() if client_match else ""
        upstream_reader, upstream_writer = await self._upstream()
        writers_of_client = {writer, upstream_writer}
        self._connections.setdefault(name, set()).update(writers_of_client)
        try:
            upstream_writer.write(head)
            await asyncio.wait(
                (
                    asyncio.create_task(_pump(reader, upstream_writer)),
                    asyncio.create_task(_pump(upstream_reader, writer)),
                )
            )
        finally:
            self._connections.get(name, set()).difference_update(writers_of_client)
            upstream_writer.transport.abort()

    async def _probe_readiness(self, port: int) -> None:
        while True:
            self._ready[port] = await _is_ready(port)
            await asyncio.sleep(_PROBE_INTERVAL_SECONDS)

    async def _upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ports = list(self._ready)
        self._random.shuffle(ports)
        for port in sorted(
            ports, key=lambda port: not self._ready[port]
        ):  # a gateway that is not ready rather than none
            with suppress(ConnectionError):
                return await asyncio.open_connection(HOST, port)
        raise ConnectionRefusedError("No gateway accepts connections.")


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
    """Copy bytes until one side ends, then close the other side."""
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    if not writer.is_closing():
        with suppress(OSError):
            writer.close()
