"""A cluster for tests that stop, kill and restart its parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.cluster import Cluster, running_cluster
from tests.clients.npm import CLIENTS, installed


@pytest.fixture(scope="session")
def node_clients() -> Path:
    """The npm project of the clients, with its packages."""
    return installed(CLIENTS)


@pytest.fixture(scope="session")
def cluster(node_clients: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two gateways and a worker; a test that stops a part starts it again."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running
