"""Limits on DescribeWorkflow calls: one per operation and request, few at a time, with a share for each client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.gateway.fakes import FakeServices, settings
from tests.gateway.live_gateway import Gateway, running_gateway
from tests.gateway.temporal_calls import TemporalCalls

NODES = "nodes(ids: $ids) { id }"
ATTACKER_ADDRESS, CLIENT_ADDRESS = "198.51.100.7", "192.0.2.1"


def login_ids(count: int) -> list[str]:
    """Return random ids of logins that do not exist."""
    return [f"login-{uuid4().hex}" for _ in range(count)]


@pytest.fixture
def calls() -> TemporalCalls:
    """Counts and delays the calls of the gateway to Temporal."""
    return TemporalCalls()


@pytest.fixture
async def gateway(
    temporal_address: str, services: FakeServices, tmp_path: Path, calls: TemporalCalls
) -> AsyncIterator[Gateway]:
    """A running gateway that accepts the client's address from a header."""
    configured = settings(temporal_address, data_dir=tmp_path, trusted_proxies=[ip_network("127.0.0.0/8")])
    async with running_gateway(configured, services, interceptors=[calls]) as gateway:
        yield gateway


async def execute(gateway: Gateway, query: str, address: str = CLIENT_ADDRESS, **variables: Any) -> Any:
    """Execute a document as a client with this address."""
    async with httpx.AsyncClient(base_url=gateway.http, timeout=30) as client:
        response = await client.post(
            "/graphql", json={"query": query, "variables": variables}, headers={"x-forwarded-for": address}
        )
        return response.json()


async def test_describes_an_operation_once_per_request(gateway: Gateway, calls: TemporalCalls) -> None:
    (id,) = login_ids(1)
    aliases = " ".join(f"a{n}: {NODES}" for n in range(13))
    query = f"query ($ids: [ID!]!, $id: ID!) {{ {aliases} x: node(id: $id) {{ id }} y: operation(id: $id) {{ id }} }}"
    response = await execute(gateway, query, ids=[id] * 15, id=id)

    codes = {error["extensions"]["code"] for error in response["errors"]}
    assert codes == {"NOT_FOUND"}
    assert calls.counts["describe"] == 1


async def test_limits_concurrent_descriptions_of_a_request(gateway: Gateway, calls: TemporalCalls) -> None:
    calls.delay_seconds = 0.02
    response = await execute(gateway, f"query ($ids: [ID!]!) {{ {NODES} }}", ids=login_ids(100))

    assert len(response["errors"]) == 100
    assert calls.counts["describe"] == 100
    assert calls.max_concurrent <= 8


async def test_a_flood_from_one_client_does_not_delay_another_client(gateway: Gateway, calls: TemporalCalls) -> None:
    calls.delay_seconds = 0.05
    query = f"query ($ids: [ID!]!) {{ {NODES} }}"
    flood = [asyncio.create_task(execute(gateway, query, ATTACKER_ADDRESS, ids=login_ids(100))) for _ in range(20)]
    async with asyncio.timeout(10):
        while True:
            if calls.counts["describe"] >= 32:
                break
            await asyncio.sleep(0.01)
    assert calls.max_concurrent <= 16
    before = calls.counts["describe"]
    response = await execute(gateway, f'{{ operation(id: "{login_ids(1)[0]}") {{ id }} }}')
    during = calls.counts["describe"] - before

    assert response["errors"][0]["extensions"]["code"] == "NOT_FOUND"
    assert during < 500, "the call waited for the 2,000 earlier ones"
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
