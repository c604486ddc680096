"""A gateway in this process with fake services, and helpers to query its dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from temporalio.client import Client

from contracts.callers import Caller
from gateway.app import create_app
from gateway.dependencies import Dependencies
from infrastructure.caching.cache import Cache
from tests.gateway.fakes import (
    GLOBEX,
    TOKEN,
    FakeServices,
    Handler,
    error_extensions,
    settings,
)
from tests.gateway.temporal_calls import TemporalCalls

DASHBOARD = """
{ viewer { dashboard {
  profile { id } tenant { id } lastUpdated
  recentFiles { id downloadUrl owner { id } }
  activeOperations { id status startedBy { id } tenant { id } ... on TenantSwitch { toTenant { id } } }
} } }
"""
SWITCH = """
mutation { switchTenant(input: { tenantId: "%s", waitSeconds: 0 }) { operation { id } } }
"""
SOURCES = ("users/get_users", "tenants/get_tenants", "files/list_files")
LISTS = "operations/list_operations"


class Gateway:
    """A gateway in this process; ``temporal`` counts its calls to Temporal."""

    def __init__(self, http: httpx.AsyncClient, temporal: TemporalCalls) -> None:
        self.http = http
        self.temporal = temporal

    async def execute(self, query: str, *, token: str = TOKEN) -> Any:
        """Execute a document and return the JSON response."""
        response = await self.http.post("/graphql", json={"query": query}, headers={"authorization": f"Bearer {token}"})
        return response.json()

    async def dashboard(self, *, token: str = TOKEN) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Query the dashboard; return its data and the error extensions by field path."""
        response = await self.execute(DASHBOARD, token=token)
        errors = {
            ".".join(map(str, error["path"][2:])): error_extensions(error) for error in response.get("errors", ())
        }
        return response["data"]["viewer"]["dashboard"], errors

    async def start(self) -> str:
        """Start a tenant switch and return its id."""
        response = await self.execute(SWITCH % GLOBEX)
        return str(response["data"]["switchTenant"]["operation"]["id"])


StartGateway = Callable[..., Awaitable[Gateway]]


def new_user() -> str:
    """Return a new user id."""
    return f"usr_{uuid4().hex}"


def source_calls(services: FakeServices) -> list[str]:
    """Return the sorted verbs of all calls to sources of the dashboard."""
    return sorted(verb for verb, _, _ in services.calls if verb in SOURCES)


def delayed(seconds: float, handler: Handler) -> Handler:
    """Return a handler that responds after this many seconds."""

    async def response(caller: Caller, body: dict[str, Any]) -> Any:
        await asyncio.sleep(seconds)
        return handler(caller, body)

    return response


def fail_to_connect(_caller: Caller, _body: dict[str, Any]) -> None:
    """Fail as if the service could not be reached."""
    raise httpx.ConnectError("refused")


async def close_operation(client: Client, operation_id: str, services: FakeServices) -> None:
    """Terminate the workflow from outside and write its final state to the record."""
    await client.get_workflow_handle(operation_id).terminate()
    await services.record.add_from(client, operation_id)


async def wait_until(condition: Callable[[], Awaitable[bool]], seconds: float = 5) -> None:
    """Poll the condition until it holds; raise TimeoutError after this many seconds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running_gateway(
    temporal_address: str, folder: Path, services: FakeServices, cache: Cache | None, redis_url: str | None
) -> AsyncIterator[Gateway]:
    """Run a gateway in this process while the block runs."""
    temporal = TemporalCalls()
    app = create_app(
        settings(temporal_address, data_dir=folder, redis_url=redis_url),
        Dependencies(services=services.transport, cache=cache, interceptors=[temporal]),
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway.localhost") as http,
    ):
        yield Gateway(http, temporal)
