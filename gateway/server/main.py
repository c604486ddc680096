"""Run the ASGI server until a stop event, then drain connections so that clients reconnect automatically."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import AppWrapper, LifespanState
from hypercorn.utils import LifespanFailureError, wrap_app
from starlette.types import ASGIApp

from gateway.server.accept_queue import AcceptQueue, PrioritizedStreamReader
from gateway.server.connection import Connection
from gateway.server.websocket_framing import with_websocket_limits
from infrastructure.startup_errors import StartFailure
from infrastructure.tasks import BackgroundTasks, SharedTask, wait_for_first

MAX_MESSAGE_BYTES = 64 * 1024
"""Size limit of one message of a websocket client."""
TLS_HANDSHAKE_TIMEOUT_SECONDS = 10.0
_READ_BUFFER_BYTES = 64 * 1024
GRACE_PERIOD_SECONDS = 35.0
"""Time for requests in progress to finish when the process stops. A mutation may wait 30 s for its operation."""


class ApplicationFailedToStart(StartFailure):
    """The application failed to start. The message is the last line of its traceback without the error's class."""

    def __init__(self, error: LifespanFailureError) -> None:
        module = StartFailure.__module__.replace(".", r"\.")
        reason = re.sub(rf"^{module}\.\w+: ", "", str(error).strip().splitlines()[-2])
        super().__init__(f"The gateway could not start: {reason}")


class Tls(NamedTuple):
    """Paths of the TLS certificate and its private key, both in PEM format."""

    certificate: Path
    key: Path


async def serve(
    app: ASGIApp,
    *,
    drain: Callable[[float], Awaitable[None]],
    host: str,
    port: int,
    stop: asyncio.Event,
    listening: socket.socket | None = None,
    on_ready: Callable[[], None] = lambda: None,
    drain_seconds: float = 10.0,
    write_timeout_seconds: float = 30.0,
    keep_alive_seconds: float = 75.0,
    tls: Tls | None = None,
) -> None:
    """Serve HTTP/1.1, HTTP/2 (without TLS to clients with prior knowledge) and websockets until ``stop`` is set.

    Then the server drains websockets and event streams, and waits for requests in progress.

    Args:
        drain: ends websockets and event streams within the given seconds.
        listening: a bound socket, which the server takes over; None: the server binds ``host`` and ``port``.
        on_ready: called when the server accepts connections.
        drain_seconds: time for ``drain``.
        write_timeout_seconds: time after which a peer that reads nothing is disconnected.
        keep_alive_seconds: time after which a connection without a request is closed.

    Raises:
        OSError: the port is in use.
        StartFailure: the application does not start.
    """
    if listening is None:  # before the application starts, so that a used port is reported at once
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    taken_over = socket.socket(fileno=listening.detach())
    config = _config(tls, keep_alive_seconds)
    framework = wrap_app(with_websocket_limits(app, MAX_MESSAGE_BYTES), config.wsgi_max_body_size, "asgi")  # type: ignore[arg-type]
    context = WorkerContext(None)

    async with _running_lifespan(framework, config) as state, BackgroundTasks() as connections:

        def on_connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            queue.enqueue(reader, partial(start, reader, writer))

        def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = Connection(
                framework, config, context, state, reader, writer, write_timeout_seconds=write_timeout_seconds
            )
            connections.start(connection.run(), name="serve a connection")

        def create_protocol() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(PrioritizedStreamReader(queue, limit=_READ_BUFFER_BYTES), on_connected)

        queue = AcceptQueue()
        server = await asyncio.get_running_loop().create_server(
            create_protocol,
            sock=taken_over,
            backlog=config.backlog,
            ssl=config.create_ssl_context(),
            ssl_handshake_timeout=min(write_timeout_seconds, TLS_HANDSHAKE_TIMEOUT_SECONDS) if tls else None,
        )
        try:
            on_ready()
            await stop.wait()
            await drain(drain_seconds)  # hypercorn closes websockets with 1011, after which clients do not reconnect
        finally:
            server.close()
            await context.terminated.set()
            await connections.wait(GRACE_PERIOD_SECONDS)  # until the requests in progress are finished


def _config(tls: Tls | None, keep_alive_seconds: float) -> Config:
    config = Config()
    config.keep_alive_timeout = keep_alive_seconds
    config.keep_alive_max_requests = 1_000_000  # after which HTTP/2 would end the streams in progress
    config.backlog = 8192  # connections beyond it are retried by the client's kernel after seconds
    config.accesslog = None
    config.include_server_header = False
    config.loglevel = "WARNING"
    if tls is not None:
        config.certfile, config.keyfile = str(tls.certificate), str(tls.key)
    return config


@asynccontextmanager
async def _running_lifespan(framework: AppWrapper, config: Config) -> AsyncIterator[LifespanState]:
    """Run the application's ASGI lifespan: start it before the block, and shut it down after it.

    Raises:
        ApplicationFailedToStart: the application raised an error during its start.
    """
    state: LifespanState = {}
    lifespan = Lifespan(framework, config, asyncio.get_running_loop(), state)
    running = SharedTask(lifespan.handle_lifespan(), name="lifespan")
    try:
        try:
            await wait_for_first(running.result(), lifespan.wait_for_startup())
            if running.is_done:
                await running.result()
        except LifespanFailureError as error:
            raise ApplicationFailedToStart(error) from error
        try:
            yield state
        finally:
            await lifespan.wait_for_shutdown()
    finally:
        await running.stop()
