"""A watcher while Temporal fails: which errors it survives, and what it then says of its state."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import Client
from temporalio.service import RPCStatusCode

from contracts.errors import OperationNotFound, ServiceUnavailable
from resolvers.following import watcher
from resolvers.following.hub import ProgressHub
from tests.gateway.live_gateway import wait_until
from tests.resolvers.following.followed import StateRecorder, follow, recorded, watcher_of
from tests.resolvers.following.polls import with_polls
from tests.resolvers.scripted import ScriptStarter, next_of

LOST = [RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.INTERNAL]


@pytest.fixture
def immediate_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a watcher retry failed calls without a pause."""
    monkeypatch.setattr(watcher, "_BACKOFF_SECONDS", (0.01, 0.02))


@pytest.mark.parametrize("times", [1, 5])
async def test_a_known_operation_that_is_not_found_at_times_goes_on(
    temporal_client: Client, starter: ScriptStarter, immediate_retries: None, times: int
) -> None:
    """As while a namespace moves to another cluster. What was borne before a success does not count."""
    client, polls = with_polls(temporal_client)
    async with ProgressHub(client) as hub, follow(hub, starter) as (script, states):
        for revision in (1, 2, 3):
            polls.fail(RPCStatusCode.NOT_FOUND, times)
            await script.move()
            assert (await next_of(states)).position.revision == revision
            await wait_until(lambda: not polls.failing)
        await script.end()
        assert (await next_of(states)).is_closed
    assert polls.failed == 3 * times


async def test_a_known_operation_that_is_not_found_six_times_in_a_row_is_gone(
    temporal_client: Client, starter: ScriptStarter, immediate_retries: None
) -> None:
    client, polls = with_polls(temporal_client)
    async with ProgressHub(client) as hub, follow(hub, starter) as (script, states):
        polls.fail(RPCStatusCode.NOT_FOUND, 100)
        await script.move()  # for the poll under way to return
        with pytest.raises(OperationNotFound):
            await StateRecorder().follow(states)
        assert polls.failed == 6
        polls.failing.clear()
        again = hub.watch(script.id)
        await next_of(again)  # who asks anew has it looked for anew
        await again.aclose()
        await script.end()


async def test_an_operation_that_is_not_found_once_after_an_outage_goes_on(
    temporal_client: Client, starter: ScriptStarter, immediate_retries: None
) -> None:
    """As while Temporal recovers: other errors do not count towards those that say that the operation is gone."""
    client, polls = with_polls(temporal_client)
    async with ProgressHub(client) as hub, follow(hub, starter) as (script, states):
        polls.fail(RPCStatusCode.UNAVAILABLE, 6)
        polls.fail(RPCStatusCode.NOT_FOUND, 1)
        polls.fail(RPCStatusCode.UNAVAILABLE, 6)
        polls.fail(RPCStatusCode.NOT_FOUND, 5)
        await script.move()
        assert (await next_of(states)).position.revision == 1
        await script.end()
        assert (await next_of(states)).is_closed
    assert polls.failed == 18


async def test_drops_a_page_token_that_the_server_forgot_and_delivers_nothing_twice(
    temporal_client: Client, starter: ScriptStarter, immediate_retries: None
) -> None:
    client, polls = with_polls(temporal_client)
    async with recorded(client, starter) as (script, recorder):
        for revision in (1, 2):
            await script.move()
            await wait_until(lambda last=revision: recorder.revisions[-1] == last)  # type: ignore[misc]
        polls.forget_tokens()
        await script.move()  # for the poll under way to return
        await wait_until(lambda: recorder.revisions[-1] == 3)
        await wait_until(lambda: polls.failed == 1)
        await script.move()
        await wait_until(lambda: recorder.revisions[-1] == 4)
        await script.end()
    assert recorder.revisions == [0, 1, 2, 3, 4, 5]
    assert recorder.observed == sorted(set(recorder.observed)), (
        "history is read from its beginning, each state observed once"
    )
    assert polls.failed == 1


@pytest.mark.parametrize("status", LOST)
async def test_a_state_is_not_called_current_while_temporal_does_not_answer(
    temporal_client: Client, starter: ScriptStarter, immediate_retries: None, status: RPCStatusCode
) -> None:
    client, polls = with_polls(temporal_client)
    async with ProgressHub(client) as hub, follow(hub, starter) as (script, states):
        current = hub.current(script.id)
        assert current is not None
        assert current.position.revision == 0
        polls.fail(status, 10_000)
        await script.move()
        await wait_until(lambda: polls.failed > 0)
        for _ in range(20):
            assert hub.current(script.id) is None
            await asyncio.sleep(0.01)
        assert hub.watching == 1, "whatever ails Temporal is not the end"
        polls.failing.clear()
        await script.move()
        while (await next_of(states)).position.revision < 2:
            pass
        assert hub.current(script.id) is not None
        await script.end()


async def test_who_waits_too_long_for_a_first_state_gets_service_unavailable(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    client, polls = with_polls(temporal_client)
    polls.may_fetch.clear()
    script = await starter.start()
    watching = watcher_of(client, script.id)
    with pytest.raises(ServiceUnavailable) as raised:
        await watching.state.first(0.1)
    assert raised.value.service == "temporal"
    await watching.stop()
    await script.end()
