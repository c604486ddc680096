"""A gateway that listens as in production, before services that answer from a script, for what nobody decent sends."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.gateway.fakes import Services, settings
from tests.gateway.live_gateway import Gateway, running_gateway


@pytest.fixture(scope="module")
def services() -> Services:
    return Services()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    temporal_address: str, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """One for a whole module: what one test sends must not spoil it for the next."""
    known = settings(temporal_address, data_dir=tmp_path_factory.mktemp("fuzz"), connection_init_timeout_seconds=1.0)
    async with running_gateway(known, services) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def nothing_broke(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Hostile input is no trouble of ours: it leaves no error and no traceback in the log."""
    yield
    trouble = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert trouble == []
