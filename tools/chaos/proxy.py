"""A TCP proxy that simulates network faults: latency, low bandwidth, stalled or reset connections, a closed port."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.servers import HOST

_CHUNK = 16 * 1024

Result = TypeVar("Result")


@dataclass(frozen=True)
class NetworkConditions:
    """How the proxy forwards data.

    Attributes:
        latency: seconds of delay of each chunk.
        bandwidth: bytes per second; None: unlimited.
        stalled: connections are accepted and no data is forwarded until the conditions change.
        down: the port is closed and open connections are reset.
        reset_after: the number of bytes after which a connection is reset; open connections are reset at once.
        close_delay: seconds between the end of one side and its forwarding to the other side.
    """

    latency: float = 0.0
    bandwidth: float | None = None
    stalled: bool = False
    down: bool = False
    reset_after: int | None = None
    close_delay: float = 0.0


NORMAL = NetworkConditions()
DOWN = NetworkConditions(down=True)
STALLED = NetworkConditions(stalled=True)
SLOW = NetworkConditions(latency=0.3)
LOW_BANDWIDTH = NetworkConditions(bandwidth=20_000)
RESETTING = NetworkConditions(reset_after=0)
DELAYED_CLOSE = NetworkConditions(close_delay=2.0)


class Proxy:
    """Forwards connections from ``port`` to a target port while it is entered as a context manager."""

    def __init__(self, target_port: int, port: int = 0) -> None:
        self.port = port
        self._target_port = target_port
        self._conditions = NORMAL
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.set_conditions(DOWN)
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def open_connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    async def set_conditions(self, conditions: NetworkConditions) -> None:
        """Apply the conditions to new and open connections."""
        self._conditions = conditions
        self._changed.set()
        self._changed = asyncio.Event()
        if conditions.down and self._server is not None:
            self._server.close()
            self._server = None
        if conditions.down or conditions.reset_after is not None:
            for writer in tuple(self._writers):
                _reset(writer)
        if not conditions.down and self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port, backlog=1024, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._writers.add(writer)
        try:
            await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # expected: one side closed the connection
        finally:
            self._connections.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._wait_while_stalled()
        there_reader, there_writer = await asyncio.open_connection(HOST, self._target_port)
        copied = [0]
        self._writers.add(there_writer)
        copies = [
            asyncio.create_task(self._copy(reader, there_writer, copied)),
            asyncio.create_task(self._copy(there_reader, writer, copied)),
        ]
        try:
            await asyncio.gather(*copies)
        finally:
            for copy in copies:
                copy.cancel()
            await asyncio.gather(*copies, return_exceptions=True)
            self._writers.discard(there_writer)
            there_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, copied: list[int]) -> None:
        while data := await reader.read(_CHUNK):
            await self._wait_while_stalled()
            conditions = self._conditions
            if conditions.latency:
                await asyncio.sleep(conditions.latency)
            if conditions.bandwidth:
                await asyncio.sleep(len(data) / conditions.bandwidth)
            copied[0] += len(data)
            if conditions.reset_after is not None and copied[0] > conditions.reset_after:
                _reset(writer)
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        if self._conditions.close_delay:
            await asyncio.sleep(self._conditions.close_delay)
        with suppress(OSError):
            writer.write_eof()

    async def _wait_while_stalled(self) -> None:
        while self._conditions.stalled:
            await self._changed.wait()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close the connection with RST, so that the peer sees a reset."""
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class ProxyNetwork:
    """Named proxies in their own thread, which a busy event loop of the test does not delay."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._proxies: dict[str, Proxy] = {}
        self._servers: list[AbstractAsyncContextManager[object]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for server in (*self._proxies.values(), *self._servers):
            self._submit(server.__aexit__(None, None, None)).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def add_proxy(self, name: str, target_port: int) -> int:
        """Start a proxy before the port; return the port of the proxy."""

        async def opened() -> Proxy:
            return await Proxy(target_port).__aenter__()

        proxy = self._proxies[name] = self._submit(opened()).result(10)
        return proxy.port

    def run_server(self, server: AbstractAsyncContextManager[Result]) -> Result:
        """Run a server in the thread of the proxies until they are closed."""
        entered = self._submit(server.__aenter__()).result(10)
        self._servers.append(server)
        return entered

    def set_conditions(self, name: str, conditions: NetworkConditions) -> None:
        self._submit(self._proxies[name].set_conditions(conditions)).result(10)

    def open_connections(self, name: str) -> int:
        return self._proxies[name].open_connections

    def _submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)
