"""A signed-in client of a gateway in this process, whose worker fails according to a fault plan."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from pydantic import SecretStr
from temporalio.client import Client as Temporal

from gateway.app import create_app
from gateway.dependencies import Dependencies
from gateway.server.main import serve
from gateway.settings import Settings
from infrastructure.settings_validation import Environment
from tests.end_to_end.client import Client
from tests.stack import Stack
from tests.workflows.saga_harness import FaultPlan, open_saga_harness

SERVICE_KEY = "s" * 32


@asynccontextmanager
async def signed_in_client(
    temporal: Temporal, address: str, folder: Path, fault_plan: FaultPlan, email: str = "ada@example.com"
) -> AsyncIterator[Client]:
    """Run the product in this process with the fault plan; yield a client of a demo account."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with open_saga_harness(temporal, folder, fault_plan) as harness:
        settings = Settings(
            environment=Environment.DEVELOPMENT,
            gateway_port=port,
            temporal_address=address,
            secret_key=SecretStr("k" * 32),
            service_key=SecretStr(SERVICE_KEY),
        )
        app = create_app(settings, Dependencies(services=httpx.ASGITransport(harness.services)))
        stop, is_ready = asyncio.Event(), asyncio.Event()
        serving = asyncio.create_task(
            serve(
                app,
                drain=app.streams.drain,
                host="127.0.0.1",
                port=port,
                stop=stop,
                listening=listener,
                on_ready=is_ready.set,
            )
        )
        try:
            await is_ready.wait()
            client = Client(Stack(f"http://127.0.0.1:{port}", address, folder, {}))
            await client.log_in(email)
            yield client
        finally:
            stop.set()
            await serving
