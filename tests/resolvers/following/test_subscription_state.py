"""Whether a switch that is followed has a word left to say once the session has ended."""

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
"""Later than a guess would wait."""


def ended_by(operation_id: str) -> Callable[[], Awaitable[ReplacedSession]]:
    async def told() -> ReplacedSession:
        return ReplacedSession(session=session(), ended_by_step=f"{operation_id}:replace_session")

    return told


async def ended_otherwise() -> ReplacedSession:
    raise NotSignedIn()


async def nobody_answers() -> ReplacedSession:
    raise ServiceUnavailable(service="auth")


async def nobody_answers_in_time() -> ReplacedSession:
    await asyncio.sleep(60)
    raise AssertionError


async def seconds_of_last_word(handed_over: Callable[[], Awaitable[ReplacedSession]], *, until: float) -> float:
    """How long it is waited for where the switch is followed for so many seconds more."""
    following, loop = SubscriptionState(), asyncio.get_running_loop()

    async def follow() -> None:
        with following.operation(SWITCH):
            await asyncio.sleep(until)

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    began = loop.time()
    assert await following.last_word(handed_over)
    took = loop.time() - began
    task.cancel()
    return took


async def test_the_switch_that_ended_the_session_is_waited_for_however_late_it_says_so() -> None:
    assert await seconds_of_last_word(ended_by(SWITCH), until=LATE_SECONDS) >= LATE_SECONDS


async def test_a_switch_that_says_nothing_more_is_waited_for_five_seconds() -> None:
    assert 4.9 < await seconds_of_last_word(ended_by(SWITCH), until=60) < 8


async def test_a_switch_that_is_followed_no_more_holds_up_nothing() -> None:
    whole = SubscriptionState()
    part = whole.part()
    with part.operation(SWITCH):
        waiting = [asyncio.create_task(each.last_word(ended_by(SWITCH))) for each in (whole, part)]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in waiting)
    async with asyncio.timeout(1):
        assert await asyncio.gather(*waiting) == [True, True]
    for each in (whole, part):
        assert not await each.last_word(ended_by(SWITCH))


async def test_one_stream_of_a_socket_does_not_wait_for_the_switch_that_another_follows() -> None:
    whole = SubscriptionState()
    with whole.part().operation(SWITCH):
        assert not await whole.part().last_word(ended_by(SWITCH))


@pytest.mark.parametrize("handed_over", [ended_by(OTHER), ended_otherwise])
async def test_one_that_did_not_end_it_is_not_waited_for(
    handed_over: Callable[[], Awaitable[ReplacedSession]],
) -> None:
    assert await seconds_of_last_word(handed_over, until=10) < 0.5


@pytest.mark.parametrize("handed_over", [nobody_answers, nobody_answers_in_time])
async def test_where_nobody_tells_which_it_was_a_moment_is_waited(
    handed_over: Callable[[], Awaitable[ReplacedSession]],
) -> None:
    assert 0.6 < await seconds_of_last_word(handed_over, until=10) < 5


async def test_a_stream_that_is_starting_is_waited_for_until_it_is_known_what_it_follows() -> None:
    whole = SubscriptionState()
    part = whole.part()
    part.start()
    waiting = [asyncio.create_task(each.last_word(ended_by(SWITCH))) for each in (whole, part)]
    await asyncio.sleep(0.2)
    with part.operation(SWITCH):
        await asyncio.sleep(LATE_SECONDS)
        assert not any(task.done() for task in waiting)
    async with asyncio.timeout(1):
        assert await asyncio.gather(*waiting) == [True, True]


async def test_a_stream_that_does_not_start_is_waited_for_a_moment_only() -> None:
    whole = SubscriptionState()
    part = whole.part()
    part.start()
    async with asyncio.timeout(3):
        assert await whole.last_word(ended_by(SWITCH))
    part.settle()
    assert not await whole.last_word(ended_by(SWITCH))


async def test_without_a_switch_there_is_no_word_to_wait_for() -> None:
    assert not await SubscriptionState().last_word(ended_by(SWITCH))
