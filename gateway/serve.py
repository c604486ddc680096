"""Serving the application, and stopping so that clients come back by themselves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from hypercorn.asyncio import serve as serve_with
from hypercorn.config import Config
from starlette.applications import Starlette

from gateway.sockets import OpenSockets

MOST_MESSAGE_BYTES = 1024 * 1024
GRACE_SECONDS = 5


async def serve(
    app: Starlette,
    *,
    host: str,
    port: int,
    stop: asyncio.Event,
    listening: socket.socket | None = None,
    announce: Callable[[], None] = lambda: None,
) -> None:
    """Serve until ``stop`` is set; then close websockets with 1012, finish the requests under way, and return.

    ``listening`` is a socket that has the port already and is taken over; ``announce`` is called once requests are
    answered. Raises OSError where the port is taken.
    """
    config = Config()
    if listening is None:  # before the application opens anything, so that a taken port is known at once
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    config.bind = [f"fd://{listening.detach()}"]
    config.graceful_timeout = GRACE_SECONDS
    config.websocket_max_message_size = MOST_MESSAGE_BYTES
    config.accesslog = None
    config.loglevel = "WARNING"
    sockets: OpenSockets = app.state.sockets

    async def stopping() -> None:
        announce()
        await stop.wait()
        await sockets.close()  # hypercorn itself closes them with 1011, at which clients give up

    await serve_with(app, config, shutdown_trigger=stopping)  # type: ignore[arg-type]
