"""Whether this process lives, and whether it can do its work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import JSONResponse
from temporalio.client import Client
from temporalio.service import RPCError

from gateway.connection_registry import ConnectionRegistry

_SECONDS = 2


class Health:
    """The endpoints for load balancers."""

    def __init__(self, streams: ConnectionRegistry, temporal: Callable[[], Client]) -> None:
        self._streams = streams
        self._temporal = temporal

    async def alive(self, _request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> JSONResponse:
        """503 while Temporal does not answer, and from the moment the process is to stop.

        A service that is down leaves fields null, not the gateway useless.
        """
        if self._streams.stopping:
            return JSONResponse({"status": "stopping"}, status_code=503)
        try:
            async with asyncio.timeout(_SECONDS):
                answers = await self._temporal().service_client.check_health(timeout=timedelta(seconds=_SECONDS))
        except (RPCError, TimeoutError):
            answers = False
        status = "ok" if answers else "temporal does not answer"
        return JSONResponse({"status": status}, status_code=200 if answers else 503)
