"""A filtered feed emits an operation that stops matching, so that a client removes it from a list of active ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.end_to_end.client import PASSWORD, Client, graphql_socket
from tests.end_to_end.test_contract_onboarding import ONBOARD, onboarding_input
from tests.stack import Stack

FEED = "subscription ($filter: OperationFilter) { operations(filter: $filter) { id status } }"


@asynccontextmanager
async def subscribed_feed(stack: Stack, client: Client, **filter: object) -> AsyncIterator[list[tuple[str, str]]]:
    """Subscribe to the feed; yield the ids and statuses emitted so far."""
    emitted: list[tuple[str, str]] = []
    async with graphql_socket(stack.websocket, client.token) as socket:
        payload = {"query": FEED, "variables": {"filter": filter}}
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))

        async def record_events() -> None:
            async for frame in socket:
                message: Any = json.loads(frame)
                if message["type"] == "next":
                    state = message["payload"]["data"]["operations"]
                    emitted.append((state["id"], state["status"]))

        recording = asyncio.create_task(record_events())
        await asyncio.sleep(0.5)
        try:
            yield emitted
        finally:
            recording.cancel()


@pytest.fixture
async def owner(dev_stack: Stack) -> Client:
    """A new administrator, so that no other test starts operations in the feed."""
    ada, person = Client(dev_stack), onboarding_input(role="admin", password=PASSWORD)
    await ada.log_in("ada@example.com")
    assert (await ada.execute(ONBOARD, input=person | {"waitSeconds": 30}))["onboardUser"]["operation"]
    client = Client(dev_stack)
    await client.log_in(person["email"])
    return client


async def complete_an_onboarding(owner: Client) -> str:
    """Complete an onboarding and return its id."""
    response = await owner.execute(ONBOARD, input=onboarding_input() | {"waitSeconds": 30})
    operation = response["onboardUser"]["operation"]
    assert operation["status"] == "COMPLETED"
    id: str = operation["id"]
    return id


async def test_an_operation_that_stops_matching_is_emitted_once_more(dev_stack: Stack, owner: Client) -> None:
    async with (
        subscribed_feed(dev_stack, owner, statuses=["RUNNING", "WAITING"]) as active,
        subscribed_feed(dev_stack, owner, statuses=["RUNNING"], kinds=["TENANT_SWITCH"]) as switches,
        subscribed_feed(dev_stack, owner, statuses=["FAILED"]) as failed,
    ):
        first, second = await complete_an_onboarding(owner), await complete_an_onboarding(owner)
        await asyncio.sleep(1)
        for id in (first, second):
            states = [status for operation_id, status in active if operation_id == id]
            assert states[-1] == "COMPLETED"
            assert set(states[:-1]) == {"RUNNING"}
        assert (switches, failed) == ([], [])
