"""Helpers that follow an operation on a socket, renew the token of a socket, and time the close of a socket."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from temporalio.client import Client

from tests.gateway.fakes import ADA
from tests.gateway.live_gateway import FOLLOW, Gateway, Socket, authorization
from tests.resolvers.scripted import Script, scripts

FEED = "subscription { operations { id } }"
SESSION_ENDED = 4401


@asynccontextmanager
async def followed_operation(gateway: Gateway, temporal_client: Client) -> AsyncIterator[tuple[Socket, Script]]:
    """Open a socket that has received the first state of a running operation of its user."""
    async with scripts(temporal_client) as starter, gateway.open(authorization()) as sock:
        script = await starter.start(user_id=ADA)
        await sock.subscribe(FOLLOW, id=script.id)
        assert (await sock.receive())["payload"]["data"]["operation"]["status"] == "RUNNING"
        yield sock, script


async def renew(sock: Socket, token: str) -> Any:
    """Send a ping with the token and return the pong."""
    await sock.send({"type": "ping", "payload": authorization(token)})
    return await sock.receive_for(None)


async def seconds_to_end(sock: Socket) -> float:
    """Return the seconds until the socket is closed because its session has ended."""
    begun = time.monotonic()
    assert await sock.wait_for_close() == SESSION_ENDED
    return time.monotonic() - begun
