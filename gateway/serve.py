"""Serving the application, and stopping so that clients come back by themselves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import AppWrapper, LifespanState
from hypercorn.utils import wrap_app
from starlette.applications import Starlette

from gateway.connections import Connection, framed
from gateway.door import Arrival, Door
from gateway.open_streams import OpenStreams
from infrastructure.tasks import BackgroundTasks, SharedTask, first_of

MOST_MESSAGE_BYTES = 64 * 1024
"""Of one message that a websocket's client sends."""
HANDSHAKE_SECONDS = 10.0
"""Of TLS, from the first byte to the last."""
MOST_STREAMS = 100
"""Of one HTTP/2 connection at a time."""
_READ_AHEAD_BYTES = 64 * 1024
"""Of one connection."""
GRACE_SECONDS = 35.0
"""For requests under way when the process stops: a mutation may wait half a minute for its operation."""


class Tls(NamedTuple):
    """Files in PEM form."""

    certificate: Path
    key: Path


async def serve(
    app: Starlette,
    *,
    host: str,
    port: int,
    stop: asyncio.Event,
    listening: socket.socket | None = None,
    announce: Callable[[], None] = lambda: None,
    drain_seconds: float = 10.0,
    stall_seconds: float = 30.0,
    keep_alive_seconds: float = 75.0,
    tls: Tls | None = None,
) -> None:
    """Serve HTTP/1.1, HTTP/2 (in clear to who knows that it is spoken) and websockets until ``stop`` is set.

    Then it ends websockets and event streams within ``drain_seconds``, finishes the requests under way, and returns.
    ``listening`` is a socket that has the port already and is taken over; ``announce`` is called once requests are
    answered. A connection without a request is closed after ``keep_alive_seconds``. Raises OSError where the port is
    taken, LifespanFailureError where the application does not start.
    """
    if listening is None:  # before the application opens anything, so that a taken port is known at once
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    taken_over = socket.socket(fileno=listening.detach())
    config = _config(tls, keep_alive_seconds)
    framework = wrap_app(framed(app, MOST_MESSAGE_BYTES), config.wsgi_max_body_size, "asgi")  # type: ignore[arg-type]
    streams: OpenStreams = app.state.streams
    context = WorkerContext(None)

    async with _living(framework, config) as state, BackgroundTasks() as connections:

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            door.let_in(reader, partial(begin, reader, writer))

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = Connection(framework, config, context, state, reader, writer, stall_seconds=stall_seconds)
            connections.start(connection.run(), name="a connection")

        def arriving() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(Arrival(door, limit=_READ_AHEAD_BYTES), connected)

        door = Door()
        server = await asyncio.get_running_loop().create_server(
            arriving,
            sock=taken_over,
            backlog=config.backlog,
            ssl=config.create_ssl_context(),
            ssl_handshake_timeout=min(stall_seconds, HANDSHAKE_SECONDS) if tls else None,
        )
        try:
            announce()
            await stop.wait()
            await streams.drain(drain_seconds)  # hypercorn itself closes sockets with 1011, at which clients give up
        finally:
            server.close()
            await context.terminated.set()
            await connections.wait(GRACE_SECONDS)  # for the requests under way


def _config(tls: Tls | None, keep_alive_seconds: float) -> Config:
    config = Config()
    config.keep_alive_timeout = keep_alive_seconds
    config.websocket_max_message_size = MOST_MESSAGE_BYTES + 1  # beyond the bound that tells the peer so
    config.h2_max_concurrent_streams = MOST_STREAMS
    config.keep_alive_max_requests = 1_000_000  # at which HTTP/2 would cut off the streams under way
    config.backlog = 8192  # where it is full, who comes next is heard after seconds, if at all
    config.accesslog = None
    config.include_server_header = False
    config.loglevel = "WARNING"
    if tls is not None:
        config.certfile, config.keyfile = str(tls.certificate), str(tls.key)
    return config


@asynccontextmanager
async def _living(framework: AppWrapper, config: Config) -> AsyncIterator[LifespanState]:
    """While the block runs the application is started."""
    state: LifespanState = {}
    lifespan = Lifespan(framework, config, asyncio.get_running_loop(), state)
    living = SharedTask(lifespan.handle_lifespan(), name="lifespan")
    try:
        await first_of(living.result(), lifespan.wait_for_startup())
        if living.is_done:
            await living.result()
        try:
            yield state
        finally:
            await lifespan.wait_for_shutdown()
    finally:
        await living.stop()
