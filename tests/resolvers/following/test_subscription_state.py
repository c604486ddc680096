"""How long a connection stays open for the final state of a tenant switch after its session has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from contracts.auth import ReplacedSession
from contracts.errors import NotSignedIn, ServiceUnavailable
from resolvers.following.subscription_state import SubscriptionState
from tests.gateway.fakes import session

SWITCH, OTHER = (f"tenant-switch-{digit * 32}" for digit in "12")
LATE_SECONDS = 1.2
"""Longer than the wait for a switch that only may have ended the session."""


def session_ended_by(operation_id: str) -> Callable[[], Awaitable[ReplacedSession]]:
    """Return a lookup that names this operation as the one that ended the session."""

    async def find_replaced_session() -> ReplacedSession:
        return ReplacedSession(session=session(), ended_by_step=f"{operation_id}:replace_session")

    return find_replaced_session


async def session_ended_without_switch() -> ReplacedSession:
    raise NotSignedIn()


async def auth_unavailable() -> ReplacedSession:
    raise ServiceUnavailable(service="auth")


async def auth_hangs() -> ReplacedSession:
    await asyncio.sleep(60)
    raise AssertionError


async def measure_wait(
    find_replaced_session: Callable[[], Awaitable[ReplacedSession]], *, followed_seconds: float
) -> float:
    """Return the seconds of the wait while the switch is followed for ``followed_seconds``."""
    subscription, loop = SubscriptionState(), asyncio.get_running_loop()

    async def follow() -> None:
        with subscription.following(SWITCH):
            await asyncio.sleep(followed_seconds)

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    started_at = loop.time()
    assert await subscription.wait_for_final_state(find_replaced_session)
    elapsed = loop.time() - started_at
    task.cancel()
    return elapsed


async def test_waits_for_the_final_state_of_the_switch_that_ended_the_session() -> None:
    assert await measure_wait(session_ended_by(SWITCH), followed_seconds=LATE_SECONDS) >= LATE_SECONDS


async def test_waits_at_most_five_seconds_for_the_final_state() -> None:
    assert 4.9 < await measure_wait(session_ended_by(SWITCH), followed_seconds=60) < 8


async def test_stops_waiting_when_the_switch_is_no_longer_followed() -> None:
    socket = SubscriptionState()
    stream = socket.child()
    with stream.following(SWITCH):
        waiting = [
            asyncio.create_task(state.wait_for_final_state(session_ended_by(SWITCH))) for state in (socket, stream)
        ]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in waiting)
    async with asyncio.timeout(1):
        assert await asyncio.gather(*waiting) == [True, True]
    for state in (socket, stream):
        assert not await state.wait_for_final_state(session_ended_by(SWITCH))


async def test_stream_does_not_wait_for_a_switch_that_another_stream_follows() -> None:
    socket = SubscriptionState()
    with socket.child().following(SWITCH):
        assert not await socket.child().wait_for_final_state(session_ended_by(SWITCH))


@pytest.mark.parametrize("find_replaced_session", [session_ended_by(OTHER), session_ended_without_switch])
async def test_does_not_wait_for_a_switch_that_did_not_end_the_session(
    find_replaced_session: Callable[[], Awaitable[ReplacedSession]],
) -> None:
    assert await measure_wait(find_replaced_session, followed_seconds=10) < 0.5


@pytest.mark.parametrize("find_replaced_session", [auth_unavailable, auth_hangs])
async def test_waits_briefly_if_the_auth_service_does_not_answer(
    find_replaced_session: Callable[[], Awaitable[ReplacedSession]],
) -> None:
    assert 0.6 < await measure_wait(find_replaced_session, followed_seconds=10) < 5


async def test_waits_for_a_starting_stream_that_then_follows_the_switch() -> None:
    socket = SubscriptionState()
    stream = socket.child()
    stream.mark_starting()
    waiting = [asyncio.create_task(state.wait_for_final_state(session_ended_by(SWITCH))) for state in (socket, stream)]
    await asyncio.sleep(0.2)
    with stream.following(SWITCH):
        await asyncio.sleep(LATE_SECONDS)
        assert not any(task.done() for task in waiting)
    async with asyncio.timeout(1):
        assert await asyncio.gather(*waiting) == [True, True]


async def test_waits_only_briefly_for_a_stream_that_does_not_start() -> None:
    socket = SubscriptionState()
    stream = socket.child()
    stream.mark_starting()
    async with asyncio.timeout(3):
        assert await socket.wait_for_final_state(session_ended_by(SWITCH))
    stream.mark_started()
    assert not await socket.wait_for_final_state(session_ended_by(SWITCH))


async def test_does_not_wait_without_a_followed_switch() -> None:
    assert not await SubscriptionState().wait_for_final_state(session_ended_by(SWITCH))
