"""A gateway whose auth service ends sessions, with and without change notifications between the two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.auth.revocations import CacheRevocationPublisher
from infrastructure.caching.cache import Cache
from infrastructure.change_notifications import ChangeNotifier, LocalNotifier
from tests.gateway.fakes import Services, settings
from tests.gateway.live_gateway import Gateway, running_gateway
from tests.gateway.sessions.auth_service import AuthService


@pytest.fixture
def change_notifier() -> ChangeNotifier:
    return LocalNotifier()


@pytest.fixture
def auth(services: Services, cache: Cache, change_notifier: ChangeNotifier) -> AuthService:
    return AuthService(services, CacheRevocationPublisher(cache, change_notifier))


@pytest.fixture
def silent_auth(services: Services, cache: Cache) -> AuthService:
    """Its change notifications reach no gateway."""
    return AuthService(services, CacheRevocationPublisher(cache, LocalNotifier()))


@pytest.fixture
async def gateway(
    temporal_address: str,
    services: Services,
    cache: Cache,
    change_notifier: ChangeNotifier,
    auth: AuthService,
    tmp_path: Path,
) -> AsyncIterator[Gateway]:
    """In one process with the services."""
    known = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(known, services, cache=cache, change_notifier=change_notifier) as gateway:
        yield gateway
