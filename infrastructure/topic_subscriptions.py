"""The subscriptions of a process to topics (Redis channels), and the subscribe commands that keep Redis in step."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis.asyncio.client import PubSub

TOPIC_PREFIX = b"changes:topic:"
"""Prefix of the Redis channel of a topic; the topic follows it."""
_PING_INTERVAL_SECONDS = 2.0
"""Interval of pings on a connection without other commands: their responses show that the connection is not lost."""
_SUBSCRIBE_TIMEOUT_SECONDS = 0.5
_MAX_TOPICS_PER_COMMAND = 500


class Subscription:
    """A subscription to one topic.

    The event ``changed`` is set by each notification, and when notifications may have been missed: when the
    subscription begins, and when the connection is lost. The subscriber calls ``clear`` before it reads the data.
    """

    def __init__(self, *, is_active: bool, is_pending: bool = False) -> None:
        self.is_active = is_active
        """Whether the subscription receives notifications at the moment."""
        self.changed = asyncio.Event()
        self.is_notified = False
        """Whether a notification has arrived since ``clear``."""
        self._is_pending = is_pending

    async def wait_until_active(self) -> None:
        """Wait until Redis has confirmed the subscription, for half a second at most.

        Return at once while the connection is lost: Redis then confirms nothing.
        """
        if self._is_pending:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SUBSCRIBE_TIMEOUT_SECONDS):
                    await self.changed.wait()

    def clear(self) -> None:
        """Reset ``changed`` and ``is_notified`` before the data is read."""
        self.changed.clear()
        self.is_notified = False

    def notify(self) -> None:
        """Record that the topic has changed."""
        self.is_notified = True
        self.changed.set()

    def set_active(self, *, is_active: bool) -> None:
        """Record whether notifications arrive, and set ``changed``: some may have been missed."""
        self.is_active, self._is_pending = is_active, False
        self.changed.set()


class TopicSubscriptions:
    """The topics that this process is subscribed to. They outlive the connection to Redis, which may be replaced."""

    def __init__(self) -> None:
        self._subscriptions: defaultdict[bytes, set[Subscription]] = defaultdict(set)
        self._is_connected = False
        self._requested: set[bytes] = set()
        """Channels for which a subscribe command was sent."""
        self._active: set[bytes] = set()
        """Channels of which Redis has confirmed the subscription."""
        self._changed: set[bytes] = set()
        """Channels that received their first subscription in this process or lost their last one."""
        self._has_changed = asyncio.Event()

    @contextmanager
    def subscribe(self, topic: str) -> Iterator[Subscription]:
        """Yield a subscription to the topic, which ends with the block."""
        channel = TOPIC_PREFIX + topic.encode()
        is_active = channel in self._active
        subscription = Subscription(is_active=is_active, is_pending=self._is_connected and not is_active)
        self._subscriptions[channel].add(subscription)
        self._mark_changed(channel)
        try:
            yield subscription
        finally:
            self._subscriptions[channel].discard(subscription)
            if not self._subscriptions[channel]:
                del self._subscriptions[channel]
                self._mark_changed(channel)

    def _mark_changed(self, channel: bytes) -> None:
        self._changed.add(channel)
        self._has_changed.set()

    async def synchronize(self, connection: PubSub) -> None:
        """Subscribe the connection to the channels that have subscriptions here, until the connection is lost.

        Raises:
            RedisError: The connection is lost.
        """
        self._is_connected = True
        self._changed = set(self._subscriptions)
        self._has_changed.set()
        while True:
            try:
                async with asyncio.timeout(_PING_INTERVAL_SECONDS):
                    await self._has_changed.wait()
            except TimeoutError:
                await connection.ping()
                continue
            self._has_changed.clear()
            changed, self._changed = self._changed, set()
            added = [each for each in changed if each in self._subscriptions and each not in self._requested]
            removed = [each for each in changed if each not in self._subscriptions and each in self._requested]
            self._requested.update(added)
            self._requested.difference_update(removed)
            self._active.difference_update(removed)
            for start in range(0, len(removed), _MAX_TOPICS_PER_COMMAND):
                await connection.unsubscribe(*removed[start : start + _MAX_TOPICS_PER_COMMAND])
            for start in range(0, len(added), _MAX_TOPICS_PER_COMMAND):
                await connection.subscribe(*added[start : start + _MAX_TOPICS_PER_COMMAND])

    def handle_message(self, kind: str, channel: bytes) -> None:
        """Process a message from Redis.

        Args:
            kind: The type that Redis gives the message: "subscribe", "message", ...
            channel: The channel from which the message comes.
        """
        subscriptions = self._subscriptions.get(channel, ())
        if kind == "subscribe" and channel in self._requested:
            self._active.add(channel)
            for subscription in subscriptions:
                subscription.set_active(is_active=True)
        elif kind == "message":
            for subscription in subscriptions:
                subscription.notify()

    def handle_connection_lost(self) -> None:
        """Mark all subscriptions as inactive until ``synchronize`` runs with a new connection."""
        if not self._is_connected:
            return
        self._is_connected = False
        self._requested.clear()
        self._active.clear()
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.set_active(is_active=False)
