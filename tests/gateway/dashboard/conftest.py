"""Fixtures: gateways that share fake services, with a new user for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infrastructure.caching.cache import Cache
from tests.gateway.dashboard.dashboard_client import Gateway, StartGateway, new_user, running_gateway
from tests.gateway.fakes import (
    FakeServices,
    make_user,
    session,
)


@pytest.fixture
async def start_gateway(temporal_address: str, tmp_path: Path, services: FakeServices) -> AsyncIterator[StartGateway]:
    """A function that starts a gateway with the same services; those with the same ``redis_url`` share a cache."""
    running: list[Any] = []

    async def start_gateway(*, cache: Cache | None = None, redis_url: str | None = None) -> Gateway:
        context = running_gateway(temporal_address, tmp_path, services, cache, redis_url)
        running.append(context)
        return await context.__aenter__()

    yield start_gateway
    for context in reversed(running):
        await context.__aexit__(None, None, None)


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> Gateway:
    """A running gateway without Redis."""
    return await start_gateway()


@pytest.fixture
def services() -> FakeServices:
    """Fake services for a user that no other test uses, so that lists contain only operations of this test."""
    services = FakeServices()
    user_id = new_user()
    services.handlers["auth/get_current_session"] = lambda caller, body: session(user_id=user_id)
    services.handlers["users/get_users"] = lambda caller, body: [make_user(id) for id in body["ids"]]
    return services
