"""Fixtures: the npm project of the JavaScript clients, and a cluster whose processes tests stop, kill and restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.cluster import Cluster, running_cluster
from tests.clients.npm import CLIENTS, installed_project


@pytest.fixture(scope="session")
def node_clients() -> Path:
    """The npm project of the JavaScript clients, with installed packages."""
    return installed_project(CLIENTS)


@pytest.fixture(scope="session")
def cluster(node_clients: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two gateways and a worker; a test that stops a process must start it again."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running
