"""Keeping an eye on a started operation: what is known of it when, and what that costs Temporal."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from temporalio.client import Client

from contracts.operations import Operation
from infrastructure.temporal.operation_history import to_operation
from resolvers.following.hub import ProgressHub
from resolvers.following.long_poll_quota import LongPollQuota
from tests.gateway.temporal_calls import TemporalCalls
from tests.resolvers.scripted import scripts


def counted(client: Client) -> tuple[Client, TemporalCalls]:
    calls = TemporalCalls()
    config = client.config()
    config["interceptors"] = [*config["interceptors"], calls]
    return Client(**config), calls


async def test_a_close_that_a_description_finds_is_passed_on_before_anybody_is_told(temporal_client: Client) -> None:
    seen: list[str] = []

    async def see(operation: Operation) -> None:
        if operation.is_closed:
            seen.append(operation.id)

    async with (
        scripts(temporal_client) as starter,
        ProgressHub(temporal_client, budget=LongPollQuota(max_long_polls=0), observe=see) as hub,
    ):
        script = await starter.start()
        started = await to_operation(await script.handle.describe(), temporal_client)
        async with asyncio.timeout(15), aclosing(hub.watch(script.id, after=started.position)) as states:
            await script.end()
            async for state in states:
                assert seen == ([script.id] if state.is_closed else [])
    assert seen == [script.id]


async def test_nothing_is_described_while_no_step_is_under_way(temporal_client: Client) -> None:
    client, calls = counted(temporal_client)
    async with scripts(client) as starter, ProgressHub(client) as hub:
        script = await starter.start()
        async with aclosing(hub.watch(script.id)) as states:
            await anext(states)
            await asyncio.sleep(1.5)
        assert calls.counts["describe"] == 0
        await script.end()
