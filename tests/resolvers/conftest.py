"""The record of operations for tests of what reads and writes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.resolvers.recorded import Record, running_record


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with running_record(tmp_path) as record:
        yield record
