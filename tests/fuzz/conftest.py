"""Fixtures: a gateway that listens as in production, with fake services, shared by all tests of a module."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.gateway.fakes import FakeServices, settings
from tests.gateway.live_gateway import Gateway, running_gateway


@pytest.fixture(scope="module")
def services() -> FakeServices:
    """Fake services of the gateway, which record every call."""
    return FakeServices()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    temporal_address: str, services: FakeServices, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """A gateway for all tests of a module; input of one test must not affect the next test."""
    configured = settings(
        temporal_address, data_dir=tmp_path_factory.mktemp("fuzz"), connection_init_timeout_seconds=1.0
    )
    async with running_gateway(configured, services) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def no_error_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail the test if the gateway logs an error: hostile input is not a fault of the gateway."""
    yield
    errors = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert errors == []
