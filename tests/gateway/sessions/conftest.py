"""A gateway whose auth service ends sessions, with and without change notifications between the two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.auth.revocations import CachedRevocations
from infrastructure.cache import Cache
from infrastructure.change_notifications import LocalWakeups, Wakeups
from tests.gateway.fakes import Services, settings
from tests.gateway.serving import Gateway, running_gateway
from tests.gateway.sessions.auth_service import AuthService


@pytest.fixture
def wakeups() -> Wakeups:
    return LocalWakeups()


@pytest.fixture
def auth(services: Services, cache: Cache, wakeups: Wakeups) -> AuthService:
    return AuthService(services, CachedRevocations(cache, wakeups))


@pytest.fixture
def silent_auth(services: Services, cache: Cache) -> AuthService:
    """Its change notifications reach no gateway."""
    return AuthService(services, CachedRevocations(cache, LocalWakeups()))


@pytest.fixture
async def gateway(
    temporal_address: str, services: Services, cache: Cache, wakeups: Wakeups, auth: AuthService, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """In one process with the services."""
    known = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(known, services, cache=cache, wakeups=wakeups) as gateway:
        yield gateway
