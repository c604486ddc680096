"""One network connection of hypercorn, with a timeout for each wait for the peer (head, write, close)."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState
from hypercorn.utils import parse_socket_addr

from gateway.server.protocol_selector import ProtocolSelector
from gateway.server.receive_queue import AppTaskGroup

_MAX_UNSENT_BYTES = 32 * 1024
"""Limit of the unsent bytes that the kernel buffers for one connection."""
_HEAD_TIMEOUT_SECONDS = 5.0
"""Time between the first and the last byte of a request's head."""
_CLOSE_TIMEOUT_SECONDS = 5.0
"""Time for the peer to read the remaining bytes of a closed connection."""


class Connection(TCPServer):
    """One TCP connection. If its peer reads nothing for ``write_timeout_seconds``, the connection is aborted.

    A websocket client reports an aborted connection as close code 1006.
    """

    protocol: ProtocolSelector

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        write_timeout_seconds: float,
    ) -> None:
        super().__init__(app, asyncio.get_running_loop(), config, context, state, reader, writer)
        self._write_timeout_seconds = write_timeout_seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self._has_ended = False
        _, self._max_buffered_bytes = writer.transport.get_write_buffer_limits()
        _limit_unsent_bytes(writer.get_extra_info("socket"))

    async def run(self) -> None:
        """Serve the connection until it is closed."""
        network, tls = self.writer.get_extra_info("socket"), self.writer.get_extra_info("ssl_object")
        try:
            client = parse_socket_addr(network.family, network.getpeername())
            server = parse_socket_addr(network.family, network.getsockname())
            async with AppTaskGroup(self.loop) as self._task_group:
                self.protocol = ProtocolSelector(
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
                    self._update_head_timer,
                )
                await self.protocol.initiate()
                await self.idle_task.restart(self._task_group, self._idle_timeout)
                await self._read_data()
                # The peer has left. hypercorn would wait here until the idle timeout.
                self._has_ended = True
                await self.idle_task.stop()
        except OSError:
            pass  # the peer has left
        finally:
            await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Write the bytes of an event. While the write buffer is full, wait for the peer, to bound memory."""
        if isinstance(event, Updated) and self._has_ended:
            return
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            self._update_head_timer()
            return
        transport = self.writer.transport
        async with self.send_lock:
            if transport.get_write_buffer_size() > self._max_buffered_bytes:
                await self._wait_for_reader()
            if not transport.is_closing():
                self.writer.write(event.data)
                return
        await self.protocol.handle(Closed())

    async def _wait_for_reader(self) -> None:
        """Wait until the write buffer has room. Abort the connection if the peer reads nothing within the timeout."""
        transport = self.writer.transport
        while not transport.is_closing():
            before = transport.get_write_buffer_size()
            try:
                with suppress(ConnectionError, RuntimeError):
                    async with asyncio.timeout(self._write_timeout_seconds):
                        await self.writer.drain()
                return
            except TimeoutError:
                if transport.get_write_buffer_size() >= before:
                    transport.abort()

    def _update_head_timer(self) -> None:
        """Start the timer that closes the connection while the head of a request is incomplete; else stop it.

        hypercorn only has a timer for idle connections, which is much longer.
        """
        if not self.protocol.has_partial_head:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_TIMEOUT_SECONDS, self.writer.close)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    async def _close(self) -> None:
        self._stop_head_timer()
        timer = self.loop.call_later(_CLOSE_TIMEOUT_SECONDS, self.writer.transport.abort)
        try:
            await super()._close()
        finally:
            timer.cancel()


def _limit_unsent_bytes(network: socket.socket) -> None:
    """Limit the unsent bytes that the kernel buffers.

    By default it buffers some MiB, so that the rate at which a client reads could not be measured for minutes.
    """
    if option := getattr(socket, "TCP_NOTSENT_LOWAT", None):
        with suppress(OSError):  # not a TCP socket
            network.setsockopt(socket.IPPROTO_TCP, option, _MAX_UNSENT_BYTES)
