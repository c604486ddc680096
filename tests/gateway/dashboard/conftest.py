"""Gateways before the same services, and a user of each test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infrastructure.caching.cache import Cache
from tests.gateway.dashboard.dashboard_client import Gateway, Start, new_user, running_gateway
from tests.gateway.fakes import (
    Services,
    person,
    session,
)


@pytest.fixture
async def start(temporal_address: str, tmp_path: Path, services: Services) -> AsyncIterator[Start]:
    """Starts a gateway before the same services; with ``redis_url``, one that shares what it knows."""
    running: list[Any] = []

    async def start(*, cache: Cache | None = None, redis_url: str | None = None) -> Gateway:
        context = running_gateway(temporal_address, tmp_path, services, cache, redis_url)
        running.append(context)
        return await context.__aenter__()

    yield start
    for context in reversed(running):
        await context.__aexit__(None, None, None)


@pytest.fixture
async def gateway(start: Start) -> Gateway:
    return await start()


@pytest.fixture
def services() -> Services:
    """Of a user of this test's own, so that no other test's operations are hers."""
    services = Services()
    ada = new_user()
    services.handlers["auth/get_current_session"] = lambda caller, body: session(user_id=ada)
    services.handlers["users/get_users"] = lambda caller, body: [person(id) for id in body["ids"]]
    return services
