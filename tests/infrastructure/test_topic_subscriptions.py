"""Subscriptions to topics: separate notification, sharing within a process, and lost connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from infrastructure.change_notifications import LocalNotifier, RedisNotifier, wait_for_event
from tests.gateway.live_gateway import wait_until
from tests.redis_access import open_change_notifier, redis_client


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with redis_client(redis_url) as redis:
        yield redis


@pytest.fixture
async def change_notifier(redis_url: str) -> AsyncIterator[RedisNotifier]:
    async with open_change_notifier(redis_url) as change_notifier, change_notifier.listening():
        await wait_until(lambda: change_notifier._topics._is_connected)  # noqa: SLF001
        yield change_notifier


async def test_two_thousand_topics_are_notified_separately(change_notifier: RedisNotifier) -> None:
    topics = [uuid4().hex for _ in range(2000)]
    with ExitStack() as stack:
        subscriptions = [stack.enter_context(change_notifier.subscribe_to_topic(topic)) for topic in topics]
        await wait_until(lambda: all(each.is_active for each in subscriptions), 10)
        for each in subscriptions:
            each.changed.clear()
        await change_notifier.notify_topics(topics[::2])
        for each in subscriptions[::2]:
            assert await wait_for_event(each.changed, 5)
        assert not any(each.changed.is_set() for each in subscriptions[1::2])


async def test_two_subscriptions_of_one_process_share_one_redis_subscription(
    change_notifier: RedisNotifier, redis: Redis
) -> None:
    topic = uuid4().hex
    with change_notifier.subscribe_to_topic(topic) as one:
        await one.wait_until_active()
        with change_notifier.subscribe_to_topic(topic) as other:
            assert other.is_active
            assert await redis.pubsub_numsub(f"changes:topic:{topic}") == [(f"changes:topic:{topic}".encode(), 1)]
        one.changed.clear()
        await asyncio.sleep(0.2)
        await change_notifier.notify_topics([topic])
        assert await wait_for_event(one.changed, 5), "only the other subscription has ended"


async def test_resubscribes_to_a_topic_that_was_just_unsubscribed(change_notifier: RedisNotifier) -> None:
    topic = uuid4().hex
    for pause in (0.0, 0.001, 0.05):
        with change_notifier.subscribe_to_topic(topic) as ended:
            await ended.wait_until_active()
        await asyncio.sleep(pause)
        with change_notifier.subscribe_to_topic(topic) as subscription:
            await asyncio.sleep(0.2)
            assert subscription.is_active
            subscription.changed.clear()
            await change_notifier.notify_topics([topic])
            assert await wait_for_event(subscription.changed, 5)
    assert not change_notifier._topics._subscriptions  # noqa: SLF001 - no public method shows a leak


async def test_subscriptions_are_inactive_while_the_connection_is_lost(
    change_notifier: RedisNotifier, redis: Redis
) -> None:
    with change_notifier.subscribe_to_topic(uuid4().hex) as subscription:
        await subscription.wait_until_active()
        subscription.changed.clear()
        await redis.client_kill_filter(_type="pubsub")
        assert await wait_for_event(subscription.changed, 5), "notifications may be missed from now on"
        await wait_until(lambda: not subscription.is_active)
        await wait_until(lambda: subscription.is_active)
        assert subscription.changed.is_set(), "notifications may have been missed until now"


async def test_local_subscription_is_active_only_with_publishers_in_the_process() -> None:
    for has_publishers in (True, False):
        with LocalNotifier(has_publishers=has_publishers).subscribe_to_topic("topic") as subscription:
            await subscription.wait_until_active()
            assert subscription.is_active is has_publishers
