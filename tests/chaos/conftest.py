"""The ground that the short runs share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tools.chaos.environment import ChaosEnvironment, start_chaos_environment

_TO_BE_CUT_OFF = 4
_TO_SEE_DEATHS = 18


@pytest.fixture(scope="session")
def shared_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosEnvironment]:
    """Workers with crash points, every part behind its proxy."""
    accounts = _TO_BE_CUT_OFF + _TO_SEE_DEATHS
    with start_chaos_environment(
        tmp_path_factory.mktemp("chaos"), accounts=accounts, external_servers=True
    ) as environment:
        yield environment


@pytest.fixture
def crash_environment(shared_environment: ChaosEnvironment) -> ChaosEnvironment:
    return replace(shared_environment, accounts=shared_environment.accounts[_TO_BE_CUT_OFF:])


@pytest.fixture
def environment(shared_environment: ChaosEnvironment) -> ChaosEnvironment:
    return replace(shared_environment, accounts=shared_environment.accounts[:_TO_BE_CUT_OFF])
