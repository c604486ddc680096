"""Change notifications: messages between processes which say that data has changed, but not how.

A subscriber that receives a notification reads the data. A notification may be lost, so subscribers also read at an
interval. There are two kinds of notifications:

- by name: every process receives them; for data that changes rarely (a user's list of operations, a session, a role)
- by topic: only processes that are subscribed to the topic receive them; for data that changes often (an operation)
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
"""Name of the notification that a process sends to itself when it may have missed notifications of other processes."""

_CHANNEL = "changes:names"
_RECONNECT_INTERVAL_SECONDS = 1.0
_RECEIVE_TIMEOUT_SECONDS = 5.0
"""A connection on which no message arrives for this time, not even the response to a ping, counts as lost."""

log = structlog.get_logger()


class ChangeNotifier(Protocol):
    """Sends and receives change notifications.

    Names are: the id of a user whose operations changed, the ``session_cache_key`` of a session that changed, the
    ``access_key`` of a user in a tenant whose role or membership changed. Topics are the ids of operations.
    """

    async def notify(self, name: str) -> None:
        """Notify the subscribers of this name in all processes."""

    def subscribe(self, *names: str) -> AbstractContextManager[asyncio.Event]:
        """Yield an event that is set by each notification of one of these names.

        The subscriber clears the event before it reads the data, so that no later change is missed.
        """

    async def notify_topics(self, topics: Collection[str]) -> None:
        """Notify the subscribers of these topics, in the processes that have subscribers."""

    def subscribe_to_topic(self, topic: str) -> AbstractContextManager[Subscription]:
        """Yield a subscription to the topic."""


class LocalNotifier:
    """Change notifications within one process.

    Args:
        has_publishers: Whether the code that calls ``notify_topics`` runs in this process; without it, subscriptions to
            topics are inactive and their subscribers have to poll.
    """

    def __init__(self, *, has_publishers: bool = True) -> None:
        self._has_publishers = has_publishers
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)

    async def notify(self, name: str) -> None:
        for event in self._waiting.get(name, ()):
            event.set()

    def notify_all(self) -> None:
        """Notify the subscribers of all names in this process."""
        for events in self._waiting.values():
            for event in events:
                event.set()

    @contextmanager
    def subscribe(self, *names: str) -> Iterator[asyncio.Event]:
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

    async def notify_topics(self, topics: Collection[str]) -> None:
        for topic in topics:
            for subscription in self._subscriptions.get(topic, ()):
                subscription.notify()

    @contextmanager
    def subscribe_to_topic(self, topic: str) -> Iterator[Subscription]:
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

    While Redis is unavailable, no notifications are sent to other processes (bypass). Notifications by name still
    reach the subscribers of this process.
    """

    def __init__(self, redis: RedisPolicy) -> None:
        self._redis = redis
        self._is_interrupted = False
        self._local = LocalNotifier()
        self._topics = TopicSubscriptions()

    async def notify(self, name: str) -> None:
        await self._local.notify(name)
        await self._redis.bypass(lambda redis: redis.publish(_CHANNEL, name), None, always=True)

    def subscribe(self, *names: str) -> AbstractContextManager[asyncio.Event]:
        return self._local.subscribe(*names)

    async def notify_topics(self, topics: Collection[str]) -> None:
        async def publish(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as commands:
                for topic in topics:
                    commands.publish(TOPIC_PREFIX + topic.encode(), b"")
                await commands.execute()

        await self._redis.bypass(publish, None)

    def subscribe_to_topic(self, topic: str) -> AbstractContextManager[Subscription]:
        return self._topics.subscribe(topic)

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
                    async with essential(lambda: self._topics.synchronize(connection), name="subscribe to topics"):
                        await self._receive(connection)
            except (RedisError, OSError, RuntimeError) as error:
                # RuntimeError: a command that fails reconnects, while the other task still reads.
                if not self._is_interrupted:
                    self._is_interrupted = True
                    log.warning("subscription_interrupted", error=repr(error))
            finally:  # from now on notifications of other processes are missed
                self._topics.handle_connection_lost()
                await self._local.notify(CONNECTION_LOST)
            await asyncio.sleep(_RECONNECT_INTERVAL_SECONDS)

    async def _receive(self, connection: PubSub) -> None:
        while True:
            message = await connection.get_message(timeout=_RECEIVE_TIMEOUT_SECONDS)
            if message is None:
                raise TimeoutError("Redis sent no message in time.")
            await self._handle_message(message)

    async def _handle_message(self, message: dict[str, Any]) -> None:
        """Notify the subscribers. Every client of Redis can publish on the channel, so the data may not be a name."""
        channel: bytes = message["channel"] or b""
        if channel.startswith(TOPIC_PREFIX):
            self._topics.handle_message(message["type"], channel)
        elif message["type"] == "subscribe":
            self._local.notify_all()  # notifications sent before the subscription were missed
            if self._is_interrupted:
                self._is_interrupted = False
                log.info("subscription_resumed")
        elif message["type"] == "message":
            try:
                await self._local.notify(message["data"].decode())
            except UnicodeDecodeError:
                log.warning("change_notification_not_utf8", size=len(message["data"]))


async def wait_for_event(event: asyncio.Event, timeout_seconds: float) -> bool:
    """Wait until the event is set or the timeout expires; return whether the event was set."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def create_change_notifier(redis: RedisPolicy | None) -> ChangeNotifier:
    """Return the notifier of a process that only sends notifications: through Redis, or within the process for None."""
    return LocalNotifier() if redis is None else RedisNotifier(redis)
