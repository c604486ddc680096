"""The ground that the short runs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.ground import Ground, chaos_ground


@pytest.fixture(scope="session")
def crash_ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Workers with crash points, and eighteen accounts."""
    with chaos_ground(tmp_path_factory.mktemp("chaos"), accounts=18) as ground:
        yield ground
