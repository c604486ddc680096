"""The record of operations, and scripted operations, for tests of what reads, writes and follows them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import Client

from tests.resolvers.operations.recorded import Record, running_record
from tests.resolvers.scripted import ScriptStarter, scripts


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with running_record(tmp_path) as record:
        yield record


@pytest.fixture
async def starter(temporal_client: Client) -> AsyncIterator[ScriptStarter]:
    async with scripts(temporal_client) as starter:
        yield starter
