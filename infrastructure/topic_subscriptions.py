"""The topics that a process is subscribed to in Redis: it receives change notifications of these topics only."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis.asyncio.client import PubSub

TOPIC_PREFIX = b"changes:topic:"
"""Of the channel of a topic."""
_PING_SECONDS = 2.0
"""Between two pings where nothing else is sent, so that something arrives on a connection that is not lost."""
_SUBSCRIBE_SECONDS = 0.5
_MAX_TOPICS_PER_COMMAND = 500


class Subscription:
    """To one topic. ``changed`` is set at each notification, and when some may have been missed: when the subscription
    begins, and when the connection is lost. The subscriber calls ``clear`` before it reads.
    """

    def __init__(self, *, is_active: bool, is_pending: bool = False) -> None:
        self.is_active = is_active
        """Whether notifications arrive at the moment."""
        self.changed = asyncio.Event()
        self.is_notified = False
        """Whether a notification has arrived since ``clear``."""
        self._is_pending = is_pending

    async def begun(self) -> None:
        """Wait until notifications arrive; not for long, and not at all while the connection is lost."""
        if self._is_pending:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SUBSCRIBE_SECONDS):
                    await self.changed.wait()

    def clear(self) -> None:
        self.changed.clear()
        self.is_notified = False

    def notify(self) -> None:
        self.is_notified = True
        self.changed.set()

    def mark(self, *, is_active: bool) -> None:
        self.is_active, self._is_pending = is_active, False
        self.changed.set()


class TopicSubscriptions:
    """The topics that this process is subscribed to, by their channels, over whichever connection there is."""

    def __init__(self) -> None:
        self._subscriptions: defaultdict[bytes, set[Subscription]] = defaultdict(set)
        self._is_connected = False
        self._requested: set[bytes] = set()
        """Channels that a subscribe command was sent for."""
        self._active: set[bytes] = set()
        """Channels of which Redis has confirmed the subscription."""
        self._changed: set[bytes] = set()
        """Channels that got their first subscription here or lost their last one."""
        self._has_changed = asyncio.Event()

    @contextmanager
    def subscribed(self, topic: str) -> Iterator[Subscription]:
        channel = TOPIC_PREFIX + topic.encode()
        is_active = channel in self._active
        subscription = Subscription(is_active=is_active, is_pending=self._is_connected and not is_active)
        self._subscriptions[channel].add(subscription)
        self._note(channel)
        try:
            yield subscription
        finally:
            self._subscriptions[channel].discard(subscription)
            if not self._subscriptions[channel]:
                del self._subscriptions[channel]
                self._note(channel)

    def _note(self, channel: bytes) -> None:
        self._changed.add(channel)
        self._has_changed.set()

    async def subscribe(self, connection: PubSub) -> None:
        """Keep the connection subscribed to what has subscriptions here, until it is lost."""
        self._is_connected = True
        self._changed = set(self._subscriptions)
        self._has_changed.set()
        while True:
            try:
                async with asyncio.timeout(_PING_SECONDS):
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

    def take_in(self, kind: str, channel: bytes) -> None:
        """Take in a message of this kind, in the terms of Redis, from the channel."""
        subscriptions = self._subscriptions.get(channel, ())
        if kind == "subscribe" and channel in self._requested:
            self._active.add(channel)
            for subscription in subscriptions:
                subscription.mark(is_active=True)
        elif kind == "message":
            for subscription in subscriptions:
                subscription.notify()

    def lose_connection(self) -> None:
        if not self._is_connected:
            return
        self._is_connected = False
        self._requested.clear()
        self._active.clear()
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.mark(is_active=False)
