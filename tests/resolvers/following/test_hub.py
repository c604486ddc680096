"""The hub: what subscribers hear of an operation, and what it costs Temporal."""

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
from resolvers.following.watcher import Mode
from tests.resolvers.following.polls import with_polls
from tests.resolvers.scripted import scripts


async def following(states: AsyncGenerator[Operation]) -> list[Operation]:
    async with aclosing(states):
        return [operation async for operation in states]


def revisions(operations: list[Operation]) -> list[int]:
    return [operation.position.revision for operation in operations]


async def until(hub: ProgressHub, operation_id: str, revision: int) -> None:
    async with aclosing(hub.watch(operation_id)) as states:
        async for operation in states:
            if operation.position.revision >= revision:
                return


async def test_tells_the_state_now_then_each_newer_one_and_completes_at_the_close(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        script = await starter.start()
        states = hub.watch(script.id)
        heard = [await anext(states)]
        for _ in range(3):
            await script.move()
            heard.append(await anext(states))
        await script.end()
        heard += await following(states)

    assert revisions(heard) == [0, 1, 2, 3, 4]
    assert heard[-1].is_closed
    assert heard[-1].state.status is OperationStatus.COMPLETED


async def test_many_subscribers_share_one_poll(temporal_client: Client) -> None:
    client, polls = with_polls(temporal_client)
    async with scripts(temporal_client) as starter, ProgressHub(client) as hub:
        script = await starter.start()
        listeners = [asyncio.create_task(following(hub.watch(script.id))) for _ in range(200)]
        await until(hub, script.id, 0)
        await script.end()
        heard = await asyncio.gather(*listeners)

    assert {states[-1].state.status for states in heard} == {OperationStatus.COMPLETED}
    assert polls.started < 6  # a page for each thing that happened, whoever listens
    assert hub.watching == 0


async def test_resumes_after_a_position_with_newer_states_only(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter:
        async with ProgressHub(temporal_client) as one_replica:
            script = await starter.start()
            await script.move()
            await until(one_replica, script.id, 1)
        async with ProgressHub(temporal_client) as another:
            waiting = asyncio.create_task(following(another.watch(script.id, after=Position(revision=1))))
            await until(another, script.id, 1)
            assert not waiting.done()
            await script.move()
            await until(another, script.id, 2)
            await script.end()
            heard = await waiting

    assert revisions(heard) == [2, 3]


async def test_who_has_seen_the_last_state_hears_nothing_and_is_told_the_end(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        script = await starter.start()
        await script.end()
        (last,) = (await following(hub.watch(script.id)))[-1:]
        again = await following(hub.watch(script.id, after=last.position))

    assert again == []


async def test_a_slow_subscriber_gets_the_newest_state(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        script = await starter.start()
        slow = hub.watch(script.id)
        await anext(slow)
        for _ in range(5):
            await script.move()
        await until(hub, script.id, 5)
        await script.end()
        await following(hub.watch(script.id))
        heard = await following(slow)

    assert revisions(heard) == [6]


async def test_goes_on_through_continue_as_new(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        script = await starter.start()
        states = hub.watch(script.id)
        await anext(states)
        await script.go_on_as_new()
        assert (await anext(states)).position.revision == 1
        await until(hub, script.id, 1)
        await temporal_client.get_workflow_handle(script.id).signal("order", "end")
        heard = await following(states)

    assert revisions(heard) == [2]
    assert heard[-1].is_closed


async def test_an_operation_ended_from_outside_says_so(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        script = await starter.start()
        states = hub.watch(script.id)
        await anext(states)
        await script.handle.terminate()
        (last,) = await following(states)

    assert last.state.status is OperationStatus.FAILED
    assert last.state.failure is not None
    assert last.state.failure.code is OperationErrorCode.DATA_INCONSISTENCY
    assert not last.state.failure.compensated


@pytest.mark.parametrize("status", [RPCStatusCode.UNAVAILABLE, RPCStatusCode.RESOURCE_EXHAUSTED])
async def test_polls_that_fail_before_a_first_state_do_not_look_like_an_end(
    temporal_client: Client, status: RPCStatusCode
) -> None:
    client, polls = with_polls(temporal_client)
    polls.failing = [RPCError("out of order", status, b"") for _ in range(3)]
    async with scripts(temporal_client) as starter, ProgressHub(client) as hub:
        script = await starter.start()
        await script.end()
        heard = await following(hub.watch(script.id))

    assert heard[-1].state.status is OperationStatus.COMPLETED


async def test_an_unknown_operation_is_not_found(temporal_client: Client) -> None:
    unknown = operation_id(b"", OperationKind.LOGIN, tenant_id="", user_id="", key=None)
    async with ProgressHub(temporal_client) as hub:
        for wrong in (unknown, "something-else"):
            with pytest.raises(OperationNotFound):
                await following(hub.watch(wrong))


async def test_a_subscriber_who_is_not_admitted_hears_nothing(temporal_client: Client) -> None:
    async def refuse(_: Operation) -> None:
        raise PermissionDenied()

    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        script = await starter.start()
        with pytest.raises(PermissionDenied):
            await following(hub.watch(script.id, admit=refuse))
        await script.end()


async def test_heartbeats_and_tries_of_a_long_step_reach_subscribers(temporal_client: Client) -> None:
    async with scripts(temporal_client) as starter, ProgressHub(temporal_client) as hub:
        heard = await following(hub.watch(await starter.start_labour()))

    steps = [operation.state.steps[0] for operation in heard]
    fractions = [step.fraction or 0.0 for step in steps if step.status is not StepStatus.PENDING]
    assert {0.25, 0.5} <= set(fractions)
    retrying = [step for step in steps if step.status is StepStatus.RETRYING]
    assert retrying
    assert {(step.attempt, step.last_error) for step in retrying} == {(2, "A service does not answer.")}
    assert retrying[0].next_attempt_at is not None
    assert heard[-1].is_closed


async def test_past_the_budget_operations_are_described_and_each_end_is_told(temporal_client: Client) -> None:
    async with (
        scripts(temporal_client) as starter,
        ProgressHub(temporal_client, budget=LongPollQuota(max_long_polls=3)) as hub,
    ):
        running = [await starter.start() for _ in range(12)]
        listeners = [asyncio.create_task(following(hub.watch(script.id))) for script in running]
        for script in running:
            await until(hub, script.id, 0)
        modes = Counter(delivery.mode for script in running if (delivery := hub.delivery(script.id)))
        for script in running:
            await script.end()
        async with asyncio.timeout(20):
            heard = await asyncio.gather(*listeners)

    assert modes == {Mode.STREAM: 3, Mode.INTERVAL: 9}
    assert all(states[-1].state.status is OperationStatus.COMPLETED for states in heard)
    assert all(revisions(states) == sorted(set(revisions(states))) for states in heard)


async def test_a_refused_long_poll_goes_over_to_descriptions_and_the_end_is_told(temporal_client: Client) -> None:
    client, polls = with_polls(temporal_client)
    polls.failing = [RPCError("ConcurrentLimit", RPCStatusCode.RESOURCE_EXHAUSTED, b"")]
    async with scripts(temporal_client) as starter, ProgressHub(client) as hub:
        script = await starter.start()
        states = hub.watch(script.id)
        await anext(states)
        delivery = hub.delivery(script.id)
        await script.end()
        heard = await following(states)

    assert delivery is not None
    assert (delivery.mode, delivery.interval_ms) == (Mode.INTERVAL, 1000)
    assert heard[-1].is_closed
