"""Watchers while Temporal fails: the errors after which they continue, and their current state."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import Client
from temporalio.service import RPCStatusCode

from contracts.errors import OperationNotFound, ServiceUnavailable
from resolvers.following import watcher
from resolvers.following.hub import ProgressHub
from tests.gateway.live_gateway import wait_until
from tests.resolvers.following.recorded_calls import with_recorded_calls
from tests.resolvers.following.watcher_helpers import StateRecorder, follow, record_states, start_watcher
from tests.resolvers.scripted import ScriptStarter, next_of

UNAVAILABLE_STATUSES = [RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.INTERNAL]


@pytest.fixture
def immediate_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a watcher retry failed calls without a pause."""
    monkeypatch.setattr(watcher, "_BACKOFF_RANGE_SECONDS", (0.01, 0.02))


@pytest.mark.parametrize("times", [1, 5])
async def test_continues_after_up_to_five_consecutive_not_found_errors(
    temporal_client: Client, starter: ScriptStarter, immediate_retries: None, times: int
) -> None:
    """For example while a namespace moves to another cluster. A success resets the count."""
    client, calls = with_recorded_calls(temporal_client)
    async with ProgressHub(client) as hub, follow(hub, starter) as (script, states):
        for revision in (1, 2, 3):
            calls.fail(RPCStatusCode.NOT_FOUND, times)
            await script.move()
            assert (await next_of(states)).position.revision == revision
            await wait_until(lambda: not calls.errors)
        await script.end()
        assert (await next_of(states)).is_closed
    assert calls.error_count == 3 * times


async def test_raises_not_found_after_six_consecutive_not_found_errors(
    temporal_client: Client, starter: ScriptStarter, immediate_retries: None
) -> None:
    client, calls = with_recorded_calls(temporal_client)
    async with ProgressHub(client) as hub, follow(hub, starter) as (script, states):
        calls.fail(RPCStatusCode.NOT_FOUND, 100)
        await script.move()  # so that the current poll returns
        with pytest.raises(OperationNotFound):
            await StateRecorder().follow(states)
        assert calls.error_count == 6
        calls.errors.clear()
        again = hub.watch(script.id)
        await next_of(again)  # a new subscriber starts a new watcher
        await again.aclose()
        await script.end()


async def test_other_errors_do_not_count_as_not_found(
    temporal_client: Client, starter: ScriptStarter, immediate_retries: None
) -> None:
    """For example while Temporal recovers from an outage."""
    client, calls = with_recorded_calls(temporal_client)
    async with ProgressHub(client) as hub, follow(hub, starter) as (script, states):
        calls.fail(RPCStatusCode.UNAVAILABLE, 6)
        calls.fail(RPCStatusCode.NOT_FOUND, 1)
        calls.fail(RPCStatusCode.UNAVAILABLE, 6)
        calls.fail(RPCStatusCode.NOT_FOUND, 5)
        await script.move()
        assert (await next_of(states)).position.revision == 1
        await script.end()
        assert (await next_of(states)).is_closed
    assert calls.error_count == 18


async def test_discards_an_unknown_page_token_without_delivering_states_twice(
    temporal_client: Client, starter: ScriptStarter, immediate_retries: None
) -> None:
    client, calls = with_recorded_calls(temporal_client)
    async with record_states(client, starter) as (script, recorder):
        for revision in (1, 2):
            await script.move()
            await wait_until(lambda last=revision: recorder.revisions[-1] == last)  # type: ignore[misc]
        calls.invalidate_page_tokens()
        await script.move()  # so that the current poll returns
        await wait_until(lambda: recorder.revisions[-1] == 3)
        await wait_until(lambda: calls.error_count == 1)
        await script.move()
        await wait_until(lambda: recorder.revisions[-1] == 4)
        await script.end()
    assert recorder.revisions == [0, 1, 2, 3, 4, 5]
    assert recorder.observed == sorted(set(recorder.observed)), (
        "history is read from its beginning, each state observed once"
    )
    assert calls.error_count == 1


@pytest.mark.parametrize("status", UNAVAILABLE_STATUSES)
async def test_has_no_current_state_while_temporal_is_unavailable(
    temporal_client: Client, starter: ScriptStarter, immediate_retries: None, status: RPCStatusCode
) -> None:
    client, calls = with_recorded_calls(temporal_client)
    async with ProgressHub(client) as hub, follow(hub, starter) as (script, states):
        current = hub.current(script.id)
        assert current is not None
        assert current.position.revision == 0
        calls.fail(status, 10_000)
        await script.move()
        await wait_until(lambda: calls.error_count > 0)
        for _ in range(20):
            assert hub.current(script.id) is None
            await asyncio.sleep(0.01)
        assert hub.watcher_count == 1, "the watcher continues"
        calls.errors.clear()
        await script.move()
        while (await next_of(states)).position.revision < 2:
            pass
        assert hub.current(script.id) is not None
        await script.end()


async def test_raises_service_unavailable_if_no_first_state_arrives_in_time(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    client, calls = with_recorded_calls(temporal_client)
    calls.may_fetch.clear()
    script = await starter.start()
    single_watcher = start_watcher(client, script.id)
    with pytest.raises(ServiceUnavailable) as raised:
        await single_watcher.state.wait_for_first(0.1)
    assert raised.value.service == "temporal"
    await single_watcher.stop()
    await script.end()
