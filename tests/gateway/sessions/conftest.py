"""Fixtures: a gateway and a fake auth service, with or without change notifications between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.auth.revocations import CacheRevocationPublisher
from infrastructure.caching.cache import Cache
from infrastructure.change_notifications import ChangeNotifier, LocalNotifier
from tests.gateway.fakes import FakeServices, settings
from tests.gateway.live_gateway import Gateway, running_gateway
from tests.gateway.sessions.auth_service import AuthService


@pytest.fixture
def change_notifier() -> ChangeNotifier:
    """A change notifier within this process."""
    return LocalNotifier()


@pytest.fixture
def auth(services: FakeServices, cache: Cache, change_notifier: ChangeNotifier) -> AuthService:
    """An auth service whose change notifications reach the gateway."""
    return AuthService(services, CacheRevocationPublisher(cache, change_notifier))


@pytest.fixture
def silent_auth(services: FakeServices, cache: Cache) -> AuthService:
    """An auth service whose change notifications do not reach the gateway."""
    return AuthService(services, CacheRevocationPublisher(cache, LocalNotifier()))


@pytest.fixture
async def gateway(
    temporal_address: str,
    services: FakeServices,
    cache: Cache,
    change_notifier: ChangeNotifier,
    auth: AuthService,
    tmp_path: Path,
) -> AsyncIterator[Gateway]:
    """A running gateway in this process, with the auth service."""
    configured = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(configured, services, cache=cache, change_notifier=change_notifier) as gateway:
        yield gateway
