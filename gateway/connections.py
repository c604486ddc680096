"""One network connection as hypercorn serves it, but no wait for a peer is endless and no socket deflates."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.typing import AppWrapper, LifespanState
from starlette.types import ASGIApp, Receive, Scope, Send

_LINGER_SECONDS = 5.0
"""How long a closed connection waits for its peer to take the rest."""


class Connection(TCPServer):
    """A peer that takes nothing for ``stall_seconds`` is cut off, which its client sees as a lost connection (1006)."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        stall_seconds: float,
    ) -> None:
        super().__init__(app, asyncio.get_running_loop(), config, context, state, reader, writer)
        self._stall_seconds = stall_seconds
        _, self._most_bytes = writer.transport.get_write_buffer_limits()

    async def protocol_send(self, event: Event) -> None:
        """Hand it to the network, waiting only where too much waits there already: memory stays bounded."""
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        transport = self.writer.transport
        async with self.send_lock:
            if transport.get_write_buffer_size() > self._most_bytes:
                await self._less_waiting()
            if not transport.is_closing():
                self.writer.write(event.data)
                return
        await self.protocol.handle(Closed())

    async def _less_waiting(self) -> None:
        transport = self.writer.transport
        while not transport.is_closing():
            before = transport.get_write_buffer_size()
            try:
                with suppress(ConnectionError, RuntimeError):
                    async with asyncio.timeout(self._stall_seconds):
                        await self.writer.drain()
                return
            except TimeoutError:
                if transport.get_write_buffer_size() >= before:
                    transport.abort()

    async def _close(self) -> None:
        leaving = self.loop.call_later(_LINGER_SECONDS, self.writer.transport.abort)
        try:
            await super()._close()
        finally:
            leaving.cancel()


def uncompressed(app: ASGIApp) -> ASGIApp:
    """The application, with websockets that do not deflate: hypercorn has no setting against it.

    It costs each message a fifth more time and each socket three times the memory, for messages of one kilobyte.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        stream = getattr(send, "__self__", None)
        if isinstance(stream, WSStream):
            stream.handshake.extensions = None  # as if the client had not offered it
        await app(scope, receive, send)

    return serve
