"""What a request makes the gateway ask of Temporal: each operation once, a few at a time, and no other client waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.gateway.fakes import Services, settings
from tests.gateway.live_gateway import Gateway, running_gateway
from tests.gateway.temporal_calls import TemporalCalls

NODES = "nodes(ids: $ids) { id }"
MALLORY, ADA = "198.51.100.7", "192.0.2.1"


def login_ids(count: int) -> list[str]:
    return [f"login-{uuid4().hex}" for _ in range(count)]


@pytest.fixture
def calls() -> TemporalCalls:
    return TemporalCalls()


@pytest.fixture
async def gateway(
    temporal_address: str, services: Services, tmp_path: Path, calls: TemporalCalls
) -> AsyncIterator[Gateway]:
    configured = settings(temporal_address, data_dir=tmp_path, trusted_proxies=[ip_network("127.0.0.0/8")])
    async with running_gateway(configured, services, interceptors=[calls]) as gateway:
        yield gateway


async def ask(gateway: Gateway, query: str, address: str = ADA, **variables: Any) -> Any:
    async with httpx.AsyncClient(base_url=gateway.http, timeout=30) as client:
        answer = await client.post(
            "/graphql", json={"query": query, "variables": variables}, headers={"x-forwarded-for": address}
        )
        return answer.json()


async def test_an_operation_is_described_once_however_often_a_request_asks_for_it(
    gateway: Gateway, calls: TemporalCalls
) -> None:
    (id,) = login_ids(1)
    aliases = " ".join(f"a{n}: {NODES}" for n in range(13))
    query = f"query ($ids: [ID!]!, $id: ID!) {{ {aliases} x: node(id: $id) {{ id }} y: operation(id: $id) {{ id }} }}"
    answer = await ask(gateway, query, ids=[id] * 15, id=id)

    codes = {error["extensions"]["code"] for error in answer["errors"]}
    assert codes == {"NOT_FOUND"}
    assert calls.counts["describe"] == 1


async def test_a_request_has_few_descriptions_under_way_at_a_time(gateway: Gateway, calls: TemporalCalls) -> None:
    calls.slow = 0.02
    answer = await ask(gateway, f"query ($ids: [ID!]!) {{ {NODES} }}", ids=login_ids(100))

    assert len(answer["errors"]) == 100
    assert calls.counts["describe"] == 100
    assert calls.most_at_once <= 8


async def test_a_flood_of_one_client_leaves_another_its_usual_way(gateway: Gateway, calls: TemporalCalls) -> None:
    calls.slow = 0.05
    query = f"query ($ids: [ID!]!) {{ {NODES} }}"
    flood = [asyncio.create_task(ask(gateway, query, MALLORY, ids=login_ids(100))) for _ in range(20)]
    async with asyncio.timeout(10):
        while True:
            if calls.counts["describe"] >= 32:
                break
            await asyncio.sleep(0.01)
    assert calls.most_at_once <= 16
    before = calls.counts["describe"]
    answer = await ask(gateway, f'{{ operation(id: "{login_ids(1)[0]}") {{ id }} }}')
    during = calls.counts["describe"] - before

    assert answer["errors"][0]["extensions"]["code"] == "NOT_FOUND"
    assert during < 500, "it did not wait for the 2,000 that came before it"
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
