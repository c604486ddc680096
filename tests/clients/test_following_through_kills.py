"""Clients follow operations while gateways, workers and Redis are killed at random, in all modes of delivery.

``make chaos`` follows 200 operations in each mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resolvers.following.watcher import DeliveryMode
from tests.clients.cluster import Cluster, running_cluster
from tools.chaos.following import follow_while_killing

OPERATIONS, KILLS, SEED = 20, 5, 12
"""Each of the five processes is killed once."""


@pytest.fixture
def killed_cluster(node_clients: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of this test only, because its processes are killed."""
    with running_cluster(tmp_path_factory.mktemp("killed")) as running:
        yield running


async def test_each_client_receives_newer_states_and_the_end(killed_cluster: Cluster) -> None:
    """Gateways have few long-polls; other operations use notifications, or polling while Redis is down."""
    followed = await follow_while_killing(
        killed_cluster, {"MAX_LONG_POLLS": "4"}, operations=OPERATIONS, kills=KILLS, seed=SEED
    )
    assert followed.faults == []
    assert followed.kills.total() == KILLS
    assert set(followed.modes) == set(DeliveryMode)
