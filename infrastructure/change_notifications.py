"""Change notifications (wake-ups): messages between processes that something with a name has changed.

A subscriber reads the change itself. A notification may be lost, so subscribers also read at an interval.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.cache import redis_at
from infrastructure.tasks import supervised

LOST = "lost"
"""The name of the notification that a process sends itself when it may have missed those of other processes."""

_CHANNEL = "wakeups"
_RECONNECT_SECONDS = 1.0
_DEADLINE_SECONDS = 2.0

log = structlog.get_logger()


class Wakeups(Protocol):
    """Sends and receives change notifications.

    Names are ids: of a user whose operations changed, of a session that changed (``hot_session_key``), of a user in a
    tenant whose role or membership changed (``access_key``).
    """

    async def tell(self, name: str) -> None:
        """Notify the subscribers of this name, in all processes."""

    def hearing(self, *names: str) -> AbstractContextManager[asyncio.Event]:
        """Yield an event that each notification of these names sets; the subscriber clears it before it reads."""


class LocalWakeups:
    """Change notifications within one process."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

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


class SharedWakeups:
    """Change notifications between processes, over one Redis subscription per process.

    While Redis is unavailable, the subscribers of this process still receive the notifications of this process.
    ``subscriber`` is the client that subscribes, by default ``redis``. It should not retry by itself: a retry delays
    the notification ``LOST``.
    """

    def __init__(self, redis: Redis, subscriber: Redis | None = None) -> None:
        self._redis = redis
        self._subscriber = subscriber or redis
        self._here = LocalWakeups()

    async def tell(self, name: str) -> None:
        await self._here.tell(name)
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await self._redis.publish(_CHANNEL, name)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("a wake-up was not sent on", error=repr(error))

    def hearing(self, *names: str) -> AbstractContextManager[asyncio.Event]:
        return self._here.hearing(*names)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Receive the notifications of other processes while the block runs."""
        async with supervised(self._listen, name="wake-ups from Redis"):
            yield

    async def _listen(self) -> None:
        while True:
            try:
                async with self._subscriber.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(_CHANNEL)
                    self._here.tell_all()  # notifications sent before the subscription were missed
                    async for message in subscription.listen():
                        await self._take_in(message["data"])
            except (RedisError, OSError) as error:
                log.warning("no wake-ups from Redis for now", error=repr(error))
            finally:  # whatever ended the subscription: from now on notifications are missed
                await self._here.tell(LOST)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _take_in(self, name: bytes) -> None:
        """Notify the subscribers of the name. Every client of Redis can publish there, so it may not be a name."""
        try:
            await self._here.tell(name.decode())
        except UnicodeDecodeError:
            log.warning("a wake-up that is not UTF-8 was ignored", size=len(name))


async def woken(news: asyncio.Event, seconds: float) -> bool:
    """Wait until the event is set, but at most so many seconds; return whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    return True


@asynccontextmanager
async def open_wakeups(redis_url: str | None) -> AsyncIterator[Wakeups]:
    """Yield the wake-ups of a process that only sends: through that Redis, or without one within the process."""
    if redis_url is None:
        yield LocalWakeups()
        return
    async with redis_at(redis_url) as redis:
        yield SharedWakeups(redis)
