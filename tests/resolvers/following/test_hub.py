"""The hub: the states that subscribers of an operation receive, and the calls to Temporal that this takes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from contracts.errors import OperationErrorCode, OperationNotFound, PermissionDenied
from contracts.operations import Operation, OperationKind, OperationStatus, Position, StepStatus, operation_id
from resolvers.following.hub import ProgressHub
from resolvers.following.long_poll_quota import LongPollQuota
from resolvers.following.watcher import DeliveryMode
from tests.resolvers.following.recorded_calls import with_recorded_calls
from tests.resolvers.scripted import scripts


async def collect(states: AsyncGenerator[Operation]) -> list[Operation]:
    """Return all states of the stream."""
    async with aclosing(states):
        return [operation async for operation in states]


def revisions(operations: list[Operation]) -> list[int]:
    return [operation.position.revision for operation in operations]


async def wait_for_revision(hub: ProgressHub, operation_id: str, revision: int) -> None:
    """Wait until the operation has reached this revision."""
    async with aclosing(hub.watch(operation_id)) as states:
        async for operation in states:
            if operation.position.revision >= revision:
                return


async def test_yields_the_current_state_and_each_newer_one_until_the_close(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        script = await starter.start()
        states = hub.watch(script.id)
        received = [await anext(states)]
        for _ in range(3):
            await script.move()
            received.append(await anext(states))
        await script.end()
        received += await collect(states)

    assert revisions(received) == [0, 1, 2, 3, 4]
    assert received[-1].is_closed
    assert received[-1].state.status is OperationStatus.COMPLETED


async def test_subscribers_share_one_long_poll(temporal_client: Client) -> None:
    client, calls = with_recorded_calls(temporal_client)
    async with scripts(temporal_client) as starter, ProgressHub(client) as hub:
        script = await starter.start()
        subscribers = [asyncio.create_task(collect(hub.watch(script.id))) for _ in range(200)]
        await wait_for_revision(hub, script.id, 0)
        await script.end()
        received = await asyncio.gather(*subscribers)

    assert {states[-1].state.status for states in received} == {OperationStatus.COMPLETED}
    assert calls.poll_count < 6  # one page for each event, independent of the number of subscribers
    assert hub.watcher_count == 0


async def test_resumes_after_a_position_with_newer_states_only(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter:
        async with ProgressHub(temporal_client) as first_replica:
            script = await starter.start()
            await script.move()
            await wait_for_revision(first_replica, script.id, 1)
        async with ProgressHub(temporal_client) as second_replica:
            waiting = asyncio.create_task(collect(second_replica.watch(script.id, after=Position(revision=1))))
            await wait_for_revision(second_replica, script.id, 1)
            assert not waiting.done()
            await script.move()
            await wait_for_revision(second_replica, script.id, 2)
            await script.end()
            received = await waiting

    assert revisions(received) == [2, 3]


async def test_stream_after_the_final_position_ends_without_a_state(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        script = await starter.start()
        await script.end()
        (last,) = (await collect(hub.watch(script.id)))[-1:]
        again = await collect(hub.watch(script.id, after=last.position))

    assert again == []


async def test_slow_subscriber_receives_only_the_newest_state(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        script = await starter.start()
        slow = hub.watch(script.id)
        await anext(slow)
        for _ in range(5):
            await script.move()
        await wait_for_revision(hub, script.id, 5)
        await script.end()
        await collect(hub.watch(script.id))
        received = await collect(slow)

    assert revisions(received) == [6]


async def test_follows_the_next_run_after_continue_as_new(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        script = await starter.start()
        states = hub.watch(script.id)
        await anext(states)
        await script.continue_as_new()
        assert (await anext(states)).position.revision == 1
        await wait_for_revision(hub, script.id, 1)
        await temporal_client.get_workflow_handle(script.id).signal("command", "end")
        received = await collect(states)

    assert revisions(received) == [2]
    assert received[-1].is_closed


async def test_terminated_operation_is_failed_with_data_inconsistency(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        script = await starter.start()
        states = hub.watch(script.id)
        await anext(states)
        await script.handle.terminate()
        (last,) = await collect(states)

    assert last.state.status is OperationStatus.FAILED
    assert last.state.failure is not None
    assert last.state.failure.code is OperationErrorCode.DATA_INCONSISTENCY
    assert not last.state.failure.compensated


@pytest.mark.parametrize("status", [RPCStatusCode.UNAVAILABLE, RPCStatusCode.RESOURCE_EXHAUSTED])
async def test_failing_polls_before_the_first_state_do_not_end_the_stream(
    temporal_client: Client, status: RPCStatusCode
) -> None:
    client, calls = with_recorded_calls(temporal_client)
    calls.errors = [RPCError("injected error", status, b"") for _ in range(3)]
    async with scripts(temporal_client) as starter, ProgressHub(client) as hub:
        script = await starter.start()
        await script.end()
        received = await collect(hub.watch(script.id))

    assert received[-1].state.status is OperationStatus.COMPLETED


async def test_raises_not_found_for_an_unknown_operation(temporal_client: Client) -> None:
    unknown = operation_id(b"", OperationKind.LOGIN, tenant_id="", user_id="", key=None)
    async with ProgressHub(temporal_client) as hub:
        for unknown_id in (unknown, "something-else"):
            with pytest.raises(OperationNotFound):
                await collect(hub.watch(unknown_id))


async def test_unauthorized_subscriber_receives_no_state(temporal_client: Client) -> None:
    async def deny(_: Operation) -> None:
        raise PermissionDenied()

    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        script = await starter.start()
        with pytest.raises(PermissionDenied):
            await collect(hub.watch(script.id, authorize=deny))
        await script.end()


async def test_delivers_heartbeats_and_retries_of_a_long_step(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        received = await collect(hub.watch(await starter.start_long_step()))

    steps = [operation.state.steps[0] for operation in received]
    fractions = [step.fraction or 0.0 for step in steps if step.status is not StepStatus.PENDING]
    assert {0.25, 0.5} <= set(fractions)
    retrying = [step for step in steps if step.status is StepStatus.RETRYING]
    assert retrying
    assert {(step.attempt, step.last_error) for step in retrying} == {(2, "A service does not answer.")}
    assert retrying[0].next_attempt_at is not None
    assert received[-1].is_closed


async def test_describes_operations_when_no_long_poll_is_left(temporal_client: Client) -> None:
    async with (
        scripts(temporal_client) as starter,
        ProgressHub(temporal_client, long_poll_quota=LongPollQuota(max_long_polls=3)) as hub,
    ):
        running = [await starter.start() for _ in range(12)]
        subscribers = [asyncio.create_task(collect(hub.watch(script.id))) for script in running]
        for script in running:
            await wait_for_revision(hub, script.id, 0)
        modes = Counter(delivery.mode for script in running if (delivery := hub.delivery(script.id)))
        for script in running:
            await script.end()
        async with asyncio.timeout(20):
            received = await asyncio.gather(*subscribers)

    assert modes == {DeliveryMode.STREAM: 3, DeliveryMode.INTERVAL: 9}
    assert all(states[-1].state.status is OperationStatus.COMPLETED for states in received)
    assert all(revisions(states) == sorted(set(revisions(states))) for states in received)


async def test_describes_an_operation_after_temporal_rejects_the_long_poll(temporal_client: Client) -> None:
    client, calls = with_recorded_calls(temporal_client)
    calls.errors = [RPCError("ConcurrentLimit", RPCStatusCode.RESOURCE_EXHAUSTED, b"")]
    async with scripts(temporal_client) as starter, ProgressHub(client) as hub:
        script = await starter.start()
        states = hub.watch(script.id)
        await anext(states)
        delivery = hub.delivery(script.id)
        await script.end()
        received = await collect(states)

    assert delivery is not None
    assert (delivery.mode, delivery.interval_ms) == (DeliveryMode.INTERVAL, 1000)
    assert received[-1].is_closed
