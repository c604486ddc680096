"""Wake-ups: word between processes that something happened under a name, so that who waits for it looks at once.

A wake-up may be lost: it says only when to look, and who waits looks now and then anyway.
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
"""The name under which a process wakes itself up when it loses those of others, and what Redis may have forgotten."""

_CHANNEL = "wakeups"
_RECONNECT_SECONDS = 1.0
_DEADLINE_SECONDS = 2.0

log = structlog.get_logger()


class Wakeups(Protocol):
    """Names are ids: of a user whose operations moved, of a session (``hot_session_key``) that is not what it was,
    of a user in a tenant whose role or membership changed (``access_key``).
    """

    async def tell(self, name: str) -> None:
        """Wake whoever waits under this name, in any process."""

    def hearing(self, *names: str) -> AbstractContextManager[asyncio.Event]:
        """An event that each wake-up under these names sets while the block runs; who looks clears it before."""


class LocalWakeups:
    """Within one process."""

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
    """Between processes, over one Redis subscription each. While Redis is away, what happens here still wakes us.

    ``ears`` is what it listens with, where that is another; one that tries again by itself tells late that it is lost.
    """

    def __init__(self, redis: Redis, ears: Redis | None = None) -> None:
        self._redis = redis
        self._ears = ears or redis
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
        """Hear the other processes while the block runs."""
        async with supervised(self._listen, name="wake-ups from Redis"):
            yield

    async def _listen(self) -> None:
        while True:
            try:
                async with self._ears.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(_CHANNEL)
                    self._here.tell_all()  # of what was told meanwhile we know nothing
                    async for message in subscription.listen():
                        await self._take_in(message["data"])
            except (RedisError, OSError) as error:
                log.warning("no wake-ups from Redis for now", error=repr(error))
            finally:  # whatever ended it: of what is told from now on we know nothing
                await self._here.tell(LOST)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _take_in(self, name: bytes) -> None:
        """Wake whoever waits under the name. Anybody who reaches Redis can publish what is no name."""
        try:
            await self._here.tell(name.decode())
        except UnicodeDecodeError:
            log.warning("a wake-up that is not UTF-8 was ignored", size=len(name))


async def woken(news: asyncio.Event, seconds: float) -> bool:
    """Wait until the event is set, or for so many seconds; whether it was."""
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    return True


@asynccontextmanager
async def open_wakeups(redis_url: str | None) -> AsyncIterator[Wakeups]:
    """For a process that tells: by that Redis, which it connects to at first use; without one, to itself alone."""
    if redis_url is None:
        yield LocalWakeups()
        return
    async with redis_at(redis_url) as redis:
        yield SharedWakeups(redis)
