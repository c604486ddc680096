"""One network connection as hypercorn serves it, with a time limit for each wait for the peer."""

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
"""That the kernel buffers."""
_HEAD_TIMEOUT_SECONDS = 5.0
"""From the first byte of a request's head to its last."""
_CLOSE_TIMEOUT_SECONDS = 5.0
"""That a closed connection waits for its peer to read the rest."""


class Connection(TCPServer):
    """A peer that reads nothing for ``write_timeout_seconds`` is disconnected; the client sees close code 1006."""

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
        self._stall_seconds = write_timeout_seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self._has_ended = False
        _, self._most_bytes = writer.transport.get_write_buffer_limits()
        _limit_unsent(writer.get_extra_info("socket"))

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
        """Write the bytes, and wait only if too many are unsent already, so that memory is bounded."""
        if isinstance(event, Updated) and self._has_ended:
            return
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            self._limit_head()
            return
        transport = self.writer.transport
        async with self.send_lock:
            if transport.get_write_buffer_size() > self._most_bytes:
                await self._wait_for_reader()
            if not transport.is_closing():
                self.writer.write(event.data)
                return
        await self.protocol.handle(Closed())

    async def _wait_for_reader(self) -> None:
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


def _limit_unsent(network: socket.socket) -> None:
    """Bound the unsent bytes in the kernel, which otherwise buffers some MiB, so that the rate at which a client reads
    could not be measured for minutes.
    """
    if option := getattr(socket, "TCP_NOTSENT_LOWAT", None):
        with suppress(OSError):  # a socket that is no TCP
            network.setsockopt(socket.IPPROTO_TCP, option, _MAX_UNSENT_BYTES)
