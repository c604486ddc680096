"""Change notifications (wake-ups): messages between processes that something has changed.

A subscriber reads the change itself. A notification may be lost, so subscribers also read at an interval. There are two
kinds: those by name reach every process, for what changes rarely (a user's list of operations, a session, a role);
those by topic reach only the processes that are subscribed to the topic, for what changes often (an operation).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, Protocol

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from infrastructure.redis_policy import RedisPolicy
from infrastructure.tasks import essential, supervised
from infrastructure.topic_subscriptions import TOPIC_PREFIX, Subscription, TopicSubscriptions

CONNECTION_LOST = "lost"
"""The name of the notification that a process sends itself when it may have missed those of other processes."""

_CHANNEL = "changes:names"
_RECONNECT_SECONDS = 1.0
_SILENCE_SECONDS = 5.0
"""A connection on which nothing arrives for so long, not even the answer to a ping, counts as lost."""

log = structlog.get_logger()


class ChangeNotifier(Protocol):
    """Sends and receives change notifications.

    Names are ids: of a user whose operations changed, of a session that changed (``hot_session_key``), of a user in a
    tenant whose role or membership changed (``access_key``). Topics are the ids of operations.
    """

    async def tell(self, name: str) -> None:
        """Notify the subscribers of this name, in all processes."""

    def hearing(self, *names: str) -> AbstractContextManager[asyncio.Event]:
        """Yield an event that each notification of these names sets; the subscriber clears it before it reads."""

    async def publish(self, topics: Collection[str]) -> None:
        """Notify the subscribers of each of these topics, in the processes that have any."""

    def subscribed(self, topic: str) -> AbstractContextManager[Subscription]:
        """Yield a subscription to the topic."""


class LocalNotifier:
    """Change notifications within one process. ``has_publishers``: what changes topics runs in this process."""

    def __init__(self, *, has_publishers: bool = True) -> None:
        self._has_publishers = has_publishers
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)

    async def tell(self, name: str) -> None:
        for event in self._waiting.get(name, ()):
            event.set()

    def tell_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()

    @contextmanager
    def hearing(self, *names: str) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        for name in names:
            self._waiting[name].add(event)
        try:
            yield event
        finally:
            for name in names:
                self._waiting[name].discard(event)
                if not self._waiting[name]:
                    del self._waiting[name]

    async def publish(self, topics: Collection[str]) -> None:
        for topic in topics:
            for subscription in self._subscriptions.get(topic, ()):
                subscription.notify()

    @contextmanager
    def subscribed(self, topic: str) -> Iterator[Subscription]:
        subscription = Subscription(is_active=self._has_publishers)
        self._subscriptions[topic].add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[topic].discard(subscription)
            if not self._subscriptions[topic]:
                del self._subscriptions[topic]


class RedisNotifier:
    """Change notifications between processes, over one connection to Redis per process.

    While Redis is unavailable, notifications are not sent (bypass): those by name still reach the subscribers of this
    process, and a process that needs the others reads at an interval.
    """

    def __init__(self, redis: RedisPolicy) -> None:
        self._redis = redis
        self._is_interrupted = False
        self._here = LocalNotifier()
        self._topics = TopicSubscriptions()

    async def tell(self, name: str) -> None:
        await self._here.tell(name)
        await self._redis.bypass(lambda redis: redis.publish(_CHANNEL, name), None, always=True)

    def hearing(self, *names: str) -> AbstractContextManager[asyncio.Event]:
        return self._here.hearing(*names)

    async def publish(self, topics: Collection[str]) -> None:
        async def publish(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as commands:
                for topic in topics:
                    commands.publish(TOPIC_PREFIX + topic.encode(), b"")
                await commands.execute()

        await self._redis.bypass(publish, None)

    def subscribed(self, topic: str) -> AbstractContextManager[Subscription]:
        return self._topics.subscribed(topic)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Receive the notifications of other processes while the block runs."""
        async with (
            self._redis.subscriber() as subscriber,
            supervised(lambda: self._listen(subscriber), name="change notifications from Redis"),
        ):
            yield

    async def _listen(self, subscriber: Redis) -> None:
        while True:
            try:
                async with subscriber.pubsub() as connection:
                    await connection.subscribe(_CHANNEL)
                    async with essential(lambda: self._topics.subscribe(connection), name="subscribe to topics"):
                        await self._receive(connection)
            except (RedisError, OSError, RuntimeError) as error:
                # RuntimeError: a command that fails reconnects, while the other task still reads.
                if not self._is_interrupted:
                    self._is_interrupted = True
                    log.warning("subscription_interrupted", error=repr(error))
            finally:  # whatever ended the subscription: from now on notifications are missed
                self._topics.lose_connection()
                await self._here.tell(CONNECTION_LOST)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _receive(self, connection: PubSub) -> None:
        while True:
            message = await connection.get_message(timeout=_SILENCE_SECONDS)
            if message is None:
                raise TimeoutError("Redis is silent.")
            await self._take_in(message)

    async def _take_in(self, message: dict[str, Any]) -> None:
        """Notify the subscribers. Every client of Redis can publish there, so it may not be a name."""
        channel: bytes = message["channel"] or b""
        if channel.startswith(TOPIC_PREFIX):
            self._topics.take_in(message["type"], channel)
        elif message["type"] == "subscribe":
            self._here.tell_all()  # notifications sent before the subscription were missed
            if self._is_interrupted:
                self._is_interrupted = False
                log.info("subscription_resumed")
        elif message["type"] == "message":
            try:
                await self._here.tell(message["data"].decode())
            except UnicodeDecodeError:
                log.warning("a wake-up that is not UTF-8 was ignored", size=len(message["data"]))


async def wait_for_event(news: asyncio.Event, seconds: float) -> bool:
    """Wait until the event is set, but at most so many seconds; return whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    return True


def create_wakeups(redis: RedisPolicy | None) -> ChangeNotifier:
    """Return the wake-ups of a process that only sends: through that Redis, or without one within the process."""
    return LocalNotifier() if redis is None else RedisNotifier(redis)
