"""Following a started operation: the order of its observers, and the describe calls."""

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


def with_counted_calls(client: Client) -> tuple[Client, TemporalCalls]:
    """Return a copy of the client and the counts of its calls."""
    calls = TemporalCalls()
    config = client.config()
    config["interceptors"] = [*config["interceptors"], calls]
    return Client(**config), calls


async def test_observer_receives_a_close_before_subscribers_do(temporal_client: Client) -> None:
    observed: list[str] = []

    async def on_state(operation: Operation) -> None:
        if operation.is_closed:
            observed.append(operation.id)

    async with (
        scripts(temporal_client) as starter,
        ProgressHub(temporal_client, long_poll_quota=LongPollQuota(max_long_polls=0), on_state=on_state) as hub,
    ):
        script = await starter.start()
        started = await to_operation(await script.handle.describe(), temporal_client)
        async with asyncio.timeout(15), aclosing(hub.watch(script.id, after=started.position)) as states:
            await script.end()
            async for state in states:
                assert observed == ([script.id] if state.is_closed else [])
    assert observed == [script.id]


async def test_makes_no_describe_call_while_no_step_is_running(temporal_client: Client) -> None:
    client, calls = with_counted_calls(temporal_client)
    async with scripts(client) as starter, ProgressHub(client) as hub:
        script = await starter.start()
        async with aclosing(hub.watch(script.id)) as states:
            await anext(states)
            await asyncio.sleep(1.5)
        assert calls.counts["describe"] == 0
        await script.end()
