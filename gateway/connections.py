"""One network connection as hypercorn serves it, but no wait for a peer is endless and nothing ambiguous is taken."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from functools import partial

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Data
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState
from hypercorn.utils import parse_socket_addr
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.inboxes import Applications
from gateway.protocols import Protocols, SocketFrames, SocketHandshake

SAY = "adx.say"
"""In a websocket's scope: sends a text past the layers around the application, which leave messages as they are."""

_UNSENT_BYTES = 32 * 1024
_HEAD_SECONDS = 5.0
"""How long a request's head may take from its first byte to its last."""
_LINGER_SECONDS = 5.0
"""How long a closed connection waits for its peer to take the rest."""


class Connection(TCPServer):
    """A peer that takes nothing for ``stall_seconds`` is cut off, which its client sees as a lost connection (1006)."""

    protocol: Protocols

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
        self._head_timer: asyncio.TimerHandle | None = None
        self._has_ended = False
        _, self._most_bytes = writer.transport.get_write_buffer_limits()
        _limit_unsent(writer.get_extra_info("socket"))

    async def run(self) -> None:
        """As hypercorn's own, with protocols that refuse more."""
        network, tls = self.writer.get_extra_info("socket"), self.writer.get_extra_info("ssl_object")
        try:
            client = parse_socket_addr(network.family, network.getpeername())
            server = parse_socket_addr(network.family, network.getsockname())
            async with Applications(self.loop) as self._task_group:
                self.protocol = Protocols(
                    self.app,
                    self.config,
                    self.context,
                    self._task_group,
                    ConnectionState(self.state),
                    tls is not None,
                    client,
                    server,
                    self.protocol_send,
                    tls.selected_alpn_protocol() if tls else "http/1.1",
                    self._limit_head,
                )
                await self.protocol.initiate()
                await self.idle_task.restart(self._task_group, self._idle_timeout)
                await self._read_data()
                # hypercorn would wait here until the connection had been idle for long enough, though the peer is gone.
                self._has_ended = True
                await self.idle_task.stop()
        except OSError:
            pass  # the peer is gone
        finally:
            await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Hand it to the network, waiting only where too much waits there already: memory stays bounded."""
        if isinstance(event, Updated) and self._has_ended:
            return
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            self._limit_head()
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

    def _limit_head(self) -> None:
        """Close the connection if the head of a request has begun and does not end in time.

        hypercorn has only a timer for idle connections, which may last much longer.
        """
        if not self.protocol.has_partial_head:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_SECONDS, self.writer.close)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    async def _close(self) -> None:
        self._stop_head_timer()
        leaving = self.loop.call_later(_LINGER_SECONDS, self.writer.transport.abort)
        try:
            await super()._close()
        finally:
            leaving.cancel()


def _limit_unsent(network: socket.socket) -> None:
    """Bound the unsent bytes in the kernel, which otherwise buffers some MiB, so that the rate at which a client reads
    could not be measured for minutes.
    """
    if option := getattr(socket, "TCP_NOTSENT_LOWAT", None):
        with suppress(OSError):  # a socket that is no TCP
            network.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)


def framed(app: ASGIApp, most_bytes: int) -> ASGIApp:
    """The application, with websockets that do not deflate and take no message above so many bytes.

    Hypercorn has no setting against the first, and would keep what comes above the second.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        stream = getattr(send, "__self__", None)
        if isinstance(stream, WSStream):
            stream.handshake = SocketHandshake(scope["headers"], scope["http_version"], most_bytes=most_bytes)
            scope[SAY] = partial(_say, stream)
        await app(scope, receive, send)

    return serve


async def _say(stream: WSStream, text: str) -> None:
    assert isinstance(stream.connection, SocketFrames)
    if frame := stream.connection.text_frame(text):
        await stream.send(Data(stream_id=stream.stream_id, data=frame))
