"""The ground that the short runs share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tools.chaos.environment import Ground, chaos_ground

_TO_BE_CUT_OFF = 4
_TO_SEE_DEATHS = 18


@pytest.fixture(scope="session")
def whole_ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Workers with crash points, every part behind its proxy."""
    accounts = _TO_BE_CUT_OFF + _TO_SEE_DEATHS
    with chaos_ground(tmp_path_factory.mktemp("chaos"), accounts=accounts, outside=True) as ground:
        yield ground


@pytest.fixture
def crash_ground(whole_ground: Ground) -> Ground:
    return replace(whole_ground, accounts=whole_ground.accounts[_TO_BE_CUT_OFF:])


@pytest.fixture
def ground(whole_ground: Ground) -> Ground:
    return replace(whole_ground, accounts=whole_ground.accounts[:_TO_BE_CUT_OFF])
