"""Fixtures: a gateway application with fake services, on a real Temporal server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import create_app
from gateway.dependencies import Dependencies
from infrastructure.caching.cache import Cache, MemoryCache
from tests.gateway.fakes import TOKEN, FakeServices, settings

Execute = Callable[..., Awaitable[Any]]


@pytest.fixture
def services() -> FakeServices:
    """Fake services behind the gateway under test."""
    return FakeServices()


@pytest.fixture
def cache() -> Cache:
    """An empty in-memory cache."""
    return MemoryCache()


@pytest.fixture
async def client(
    temporal_address: str, services: FakeServices, cache: Cache, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of a gateway application that runs in this process."""
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
def execute(client: httpx.AsyncClient) -> Execute:
    """A function that executes a GraphQL document over HTTP and returns the JSON response; ``token=None`` sends no
    session.
    """

    async def execute(query: str, *, token: str | None = TOKEN, **variables: object) -> Any:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        response = await client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)
        return response.json()

    return execute
