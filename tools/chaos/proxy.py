"""A TCP proxy that plays a bad network: slow, narrow, silent, resetting, closing late, or not there at all."""

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

Done = TypeVar("Done")


@dataclass(frozen=True)
class Weather:
    """``latency``: seconds that each piece takes; ``bandwidth``: bytes a second, None for all there is.

    ``silent``: connections are taken and nothing comes through, either way, until the weather changes. ``down``: nobody
    listens, and what was open is lost. ``reset_after``: so many bytes of a connection come through, and then it is
    reset; those that are open are reset at once. ``slow_close``: seconds between the end of one side and word of it.
    """

    latency: float = 0.0
    bandwidth: float | None = None
    silent: bool = False
    down: bool = False
    reset_after: int | None = None
    slow_close: float = 0.0


FAIR = Weather()
DOWN = Weather(down=True)
SILENT = Weather(silent=True)
SLOW = Weather(latency=0.3)
NARROW = Weather(bandwidth=20_000)
RESETTING = Weather(reset_after=0)
LINGERING = Weather(slow_close=2.0)


class Proxy:
    """Between its ``port`` and the one behind it, for whoever enters it within an event loop."""

    def __init__(self, behind: int, port: int = 0) -> None:
        self.port = port
        self._behind = behind
        self._weather = FAIR
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
        await self.turn(DOWN)
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    async def turn(self, weather: Weather) -> None:
        """From now on, for those that are open too."""
        self._weather = weather
        self._changed.set()
        self._changed = asyncio.Event()
        if weather.down and self._server is not None:
            self._server.close()
            self._server = None
        if weather.down or weather.reset_after is not None:
            for writer in tuple(self._writers):
                _reset(writer)
        if not weather.down and self._server is None:
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
            await self._carry(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # either side is gone: that is what this is for
        finally:
            self._connections.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._while_silent()
        there_reader, there_writer = await asyncio.open_connection(HOST, self._behind)
        carried = [0]
        self._writers.add(there_writer)
        pumps = [
            asyncio.create_task(self._pump(reader, there_writer, carried)),
            asyncio.create_task(self._pump(there_reader, writer, carried)),
        ]
        try:
            await asyncio.gather(*pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._writers.discard(there_writer)
            there_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, carried: list[int]) -> None:
        while piece := await reader.read(_CHUNK):
            await self._while_silent()
            weather = self._weather
            if weather.latency:
                await asyncio.sleep(weather.latency)
            if weather.bandwidth:
                await asyncio.sleep(len(piece) / weather.bandwidth)
            carried[0] += len(piece)
            if weather.reset_after is not None and carried[0] > weather.reset_after:
                _reset(writer)
                raise ConnectionResetError
            writer.write(piece)
            await writer.drain()
        if self._weather.slow_close:
            await asyncio.sleep(self._weather.slow_close)
        with suppress(OSError):
            writer.write_eof()

    async def _while_silent(self) -> None:
        while self._weather.silent:
            await self._changed.wait()


def _reset(writer: asyncio.StreamWriter) -> None:
    """By RST, not by FIN: the peer sees a connection that was reset."""
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Network:
    """Proxies by name, in a thread of their own, so that they go on whatever the test's event loop does."""

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
            self._do(server.__aexit__(None, None, None)).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def before(self, name: str, behind: int) -> int:
        """The port of a proxy before that port."""

        async def opened() -> Proxy:
            return await Proxy(behind).__aenter__()

        proxy = self._proxies[name] = self._do(opened()).result(10)
        return proxy.port

    def enter(self, server: AbstractAsyncContextManager[Done]) -> Done:
        """Have a server of ours run in this thread, as long as the network does."""
        entered = self._do(server.__aenter__()).result(10)
        self._servers.append(server)
        return entered

    def turn(self, name: str, weather: Weather) -> None:
        self._do(self._proxies[name].turn(weather)).result(10)

    def open(self, name: str) -> int:
        return self._proxies[name].open

    def _do(self, work: Coroutine[Any, Any, Done]) -> Future[Done]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)
