"""Asking for the dashboard at the edge of a gateway in this process, before scripted services."""

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
    Handler,
    Services,
    facts,
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
    """One process, and its calls of Temporal."""

    def __init__(self, http: httpx.AsyncClient, temporal: TemporalCalls) -> None:
        self.http = http
        self.temporal = temporal

    async def ask(self, query: str, *, token: str = TOKEN) -> Any:
        answer = await self.http.post("/graphql", json={"query": query}, headers={"authorization": f"Bearer {token}"})
        return answer.json()

    async def dashboard(self, *, token: str = TOKEN) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """The data, and the facts of the errors by the path below the dashboard."""
        answer = await self.ask(DASHBOARD, token=token)
        errors = {".".join(map(str, error["path"][2:])): facts(error) for error in answer.get("errors", ())}
        return answer["data"]["viewer"]["dashboard"], errors

    async def start(self) -> str:
        answer = await self.ask(SWITCH % GLOBEX)
        return str(answer["data"]["switchTenant"]["operation"]["id"])


Start = Callable[..., Awaitable[Gateway]]


def new_user() -> str:
    return f"usr_{uuid4().hex}"


def source_calls(services: Services) -> list[str]:
    return sorted(verb for verb, _, _ in services.calls if verb in SOURCES)


def after(seconds: float, handler: Handler) -> Handler:
    async def answer(caller: Caller, body: dict[str, Any]) -> Any:
        await asyncio.sleep(seconds)
        return handler(caller, body)

    return answer


def refuse(_caller: Caller, _body: dict[str, Any]) -> None:
    raise httpx.ConnectError("refused")


async def close(client: Client, operation_id: str, services: Services) -> None:
    """End it from outside, and have the record corrected."""
    await client.get_workflow_handle(operation_id).terminate()
    await services.record.add_from(client, operation_id)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - what it waits for is told to nobody here
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running_gateway(
    temporal_address: str, folder: Path, services: Services, cache: Cache | None, redis_url: str | None
) -> AsyncIterator[Gateway]:
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
