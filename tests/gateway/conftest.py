"""A gateway on a real Temporal server, before services that answer from a script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import create_app
from gateway.dependencies import Dependencies
from infrastructure.caching.cache import Cache, MemoryCache
from tests.gateway.fakes import TOKEN, Services, settings

Ask = Callable[..., Awaitable[Any]]


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def cache() -> Cache:
    return MemoryCache()


@pytest.fixture
async def client(
    temporal_address: str, services: Services, cache: Cache, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        settings(temporal_address, data_dir=tmp_path), Dependencies(services=services.transport, cache=cache)
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway.localhost") as client,
    ):
        yield client


@pytest.fixture
def ask(client: httpx.AsyncClient) -> Ask:
    """The answer's JSON. ``token`` None asks without a session."""

    async def ask(query: str, *, token: str | None = TOKEN, **variables: object) -> Any:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        answer = await client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)
        return answer.json()

    return ask
