"""Whether this process lives, and whether it can do its work."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import JSONResponse
from temporalio.client import Client
from temporalio.service import RPCError

_SECONDS = 2


async def alive(_request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> JSONResponse:
    """503 while Temporal does not answer, and from the moment the process is to stop.

    A service that is down leaves fields null, not the gateway useless.
    """
    if request.app.state.streams.stopping:
        return JSONResponse({"status": "stopping"}, status_code=503)
    client: Client = request.app.state.temporal
    try:
        async with asyncio.timeout(_SECONDS):
            answers = await client.service_client.check_health(timeout=timedelta(seconds=_SECONDS))
    except (RPCError, TimeoutError):
        answers = False
    status = "ok" if answers else "temporal does not answer"
    return JSONResponse({"status": status}, status_code=200 if answers else 503)
