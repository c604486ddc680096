"""Subscriptions to topics over a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from infrastructure.change_notifications import LocalNotifier, RedisNotifier, wait_for_event
from tests.gateway.live_gateway import until
from tests.redis_access import open_wakeups, redis_client


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with redis_client(redis_url) as redis:
        yield redis


@pytest.fixture
async def wakeups(redis_url: str) -> AsyncIterator[RedisNotifier]:
    async with open_wakeups(redis_url) as wakeups, wakeups.listening():
        await until(lambda: wakeups._topics._is_connected)  # noqa: SLF001
        yield wakeups


async def test_each_of_two_thousand_topics_is_notified_by_itself(wakeups: RedisNotifier) -> None:
    topics = [uuid4().hex for _ in range(2000)]
    with ExitStack() as stack:
        subscriptions = [stack.enter_context(wakeups.subscribed(topic)) for topic in topics]
        await until(lambda: all(each.is_active for each in subscriptions), 10)
        for each in subscriptions:
            each.changed.clear()
        await wakeups.publish(topics[::2])
        for each in subscriptions[::2]:
            assert await wait_for_event(each.changed, 5)
        assert not any(each.changed.is_set() for each in subscriptions[1::2])


async def test_two_subscriptions_of_one_process_share_the_one_in_redis(wakeups: RedisNotifier, redis: Redis) -> None:
    topic = uuid4().hex
    with wakeups.subscribed(topic) as one:
        await one.begun()
        with wakeups.subscribed(topic) as other:
            assert other.is_active
            assert await redis.pubsub_numsub(f"changes:topic:{topic}") == [(f"changes:topic:{topic}".encode(), 1)]
        one.changed.clear()
        await asyncio.sleep(0.2)
        await wakeups.publish([topic])
        assert await wait_for_event(one.changed, 5), "the other one has ended, this one has not"


async def test_subscribes_again_to_a_topic_that_was_left_a_moment_ago(wakeups: RedisNotifier) -> None:
    topic = uuid4().hex
    for pause in (0.0, 0.001, 0.05):
        with wakeups.subscribed(topic) as left:
            await left.begun()
        await asyncio.sleep(pause)
        with wakeups.subscribed(topic) as subscription:
            await asyncio.sleep(0.2)
            assert subscription.is_active
            subscription.changed.clear()
            await wakeups.publish([topic])
            assert await wait_for_event(subscription.changed, 5)
    assert not wakeups._topics._subscriptions  # noqa: SLF001 - a leak shows nowhere else


async def test_a_connection_that_is_cut_makes_each_subscription_inactive_until_it_is_made_again(
    wakeups: RedisNotifier, redis: Redis
) -> None:
    with wakeups.subscribed(uuid4().hex) as subscription:
        await subscription.begun()
        subscription.changed.clear()
        await redis.client_kill_filter(_type="pubsub")
        assert await wait_for_event(subscription.changed, 5), "notifications may be missed from now on"
        await until(lambda: not subscription.is_active)
        await until(lambda: subscription.is_active)
        assert subscription.changed.is_set(), "notifications may have been missed until now"


async def test_without_redis_a_subscription_is_active_if_the_publishers_are_in_this_process() -> None:
    for has_publishers in (True, False):
        with LocalNotifier(has_publishers=has_publishers).subscribed("topic") as subscription:
            await subscription.begun()
            assert subscription.is_active is has_publishers
