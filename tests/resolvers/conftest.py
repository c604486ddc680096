"""Fixtures for tests of operations: the record of operations, and a worker for scripted operations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import Client

from tests.resolvers.operations.record_of_operations import Record, running_record
from tests.resolvers.scripted import ScriptStarter, scripts


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    """The workflow service with an empty record of operations."""
    async with running_record(tmp_path) as record:
        yield record


@pytest.fixture
async def starter(temporal_client: Client) -> AsyncIterator[ScriptStarter]:
    """A worker for scripted operations, and what starts them."""
    async with scripts(temporal_client) as starter:
        yield starter
