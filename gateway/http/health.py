"""The endpoints /healthz and /readyz: whether the process runs, and whether it can serve requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import JSONResponse
from temporalio.client import Client
from temporalio.service import RPCError

from gateway.connection_registry import ConnectionRegistry

_TEMPORAL_TIMEOUT_SECONDS = 2


class Health:
    """The health endpoints for load balancers.

    Args:
        streams: the registry that knows whether the process is stopping.
        temporal: returns the client of the Temporal server while the application runs.
    """

    def __init__(self, streams: ConnectionRegistry, temporal: Callable[[], Client]) -> None:
        self._streams = streams
        self._temporal = temporal

    async def alive(self, _request: Request) -> JSONResponse:
        """Return 200: the process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> JSONResponse:
        """Return 200 if the process can serve requests; 503 while Temporal is unavailable and while the process stops.

        An unavailable service does not count: the gateway then returns null for the fields of that service.
        """
        if self._streams.is_stopping:
            return JSONResponse({"status": "stopping"}, status_code=503)
        try:
            async with asyncio.timeout(_TEMPORAL_TIMEOUT_SECONDS):
                is_ready = await self._temporal().service_client.check_health(
                    timeout=timedelta(seconds=_TEMPORAL_TIMEOUT_SECONDS)
                )
        except (RPCError, TimeoutError):
            is_ready = False
        status = "ok" if is_ready else "temporal does not answer"
        return JSONResponse({"status": status}, status_code=200 if is_ready else 503)
