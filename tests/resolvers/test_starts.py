"""Keeping an eye on a started operation: what is known of it when, and what that costs Temporal."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from temporalio.client import Client

from contracts.operations import Operation, StepStatus
from infrastructure.change_notifications import LocalWakeups
from infrastructure.operation_history import operation_of
from resolvers.poller import OperationPoller
from resolvers.progress import ProgressHub
from tests.gateway.temporal_calls import TemporalCalls
from tests.resolvers.scripted import scripts


def counted(client: Client) -> tuple[Client, TemporalCalls]:
    calls = TemporalCalls()
    config = client.config()
    config["interceptors"] = [*config["interceptors"], calls]
    return Client(**config), calls


async def test_who_only_keeps_a_watcher_at_work_has_nothing_described(temporal_client: Client) -> None:
    client, calls = counted(temporal_client)
    async with scripts(client) as starter, ProgressHub(client) as hub:
        id = await starter.start_labour()
        async with aclosing(hub.watch(id, quietly=True)) as states:
            async for state in states:
                if state.state.steps[0].status is StepStatus.RUNNING:
                    break
            await asyncio.sleep(1.5)
            assert calls.counts["describe"] == 0

            assert hub.known(id) is None, "history does not tell what this step does"
            await asyncio.sleep(1)
            known = hub.known(id)
            assert known is not None
            assert known.state.steps[0].fraction or known.state.steps[0].status is StepStatus.RETRYING


async def test_a_close_that_a_description_finds_is_passed_on_before_anybody_is_told(temporal_client: Client) -> None:
    seen: list[str] = []

    async def see(operation: Operation) -> None:
        if operation.is_closed:
            seen.append(operation.id)

    async with scripts(temporal_client) as starter, ProgressHub(temporal_client, observe=see) as hub:
        script = await starter.start()
        started = await operation_of(await script.handle.describe(), temporal_client)
        poller = OperationPoller(temporal_client, hub, LocalWakeups(), check_seconds=0.1)
        async with asyncio.timeout(15), aclosing(poller.newer(started)) as states:
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
