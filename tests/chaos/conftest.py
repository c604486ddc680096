"""The environment that the short chaos tests share, and the accounts of each group of tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tools.chaos.environment import ChaosEnvironment, start_chaos_environment

_ACCOUNTS_FOR_OUTAGES = 4
_ACCOUNTS_FOR_CRASHES = 18


@pytest.fixture(scope="session")
def shared_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosEnvironment]:
    """Workers with crash points, and every component behind a proxy."""
    accounts = _ACCOUNTS_FOR_OUTAGES + _ACCOUNTS_FOR_CRASHES
    with start_chaos_environment(
        tmp_path_factory.mktemp("chaos"), accounts=accounts, external_servers=True
    ) as environment:
        yield environment


@pytest.fixture
def crash_environment(shared_environment: ChaosEnvironment) -> ChaosEnvironment:
    """The shared environment with the accounts of tests that kill workers."""
    return replace(shared_environment, accounts=shared_environment.accounts[_ACCOUNTS_FOR_OUTAGES:])


@pytest.fixture
def environment(shared_environment: ChaosEnvironment) -> ChaosEnvironment:
    """The shared environment with the accounts of tests that interrupt components."""
    return replace(shared_environment, accounts=shared_environment.accounts[:_ACCOUNTS_FOR_OUTAGES])
