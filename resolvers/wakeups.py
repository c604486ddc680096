"""Wake-ups: word between processes that something of a user's began, so that who follows it looks at Temporal at once.

A wake-up may be lost: it says only when to look, and who follows looks now and then anyway.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

_CHANNEL = "wakeups"
_RECONNECT_SECONDS = 1.0

log = structlog.get_logger()


class Wakeups(Protocol):
    async def tell(self, user_id: str) -> None:
        """Wake whoever follows this user's operations, in any process."""

    async def told(self, user_id: str, seconds: float) -> None:
        """Return at the next wake-up for this user, or after so many seconds without one."""


class LocalWakeups:
    """Within one process."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    async def tell(self, user_id: str) -> None:
        for event in self._waiting.get(user_id, ()):
            event.set()

    async def told(self, user_id: str, seconds: float) -> None:
        event = asyncio.Event()
        self._waiting[user_id].add(event)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await event.wait()
        finally:
            self._waiting[user_id].discard(event)
            if not self._waiting[user_id]:
                del self._waiting[user_id]


class SharedWakeups:
    """Between processes, over one Redis subscription each. While Redis is away, what happens here still wakes us."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._here = LocalWakeups()

    async def tell(self, user_id: str) -> None:
        await self._here.tell(user_id)
        try:
            await self._redis.publish(_CHANNEL, user_id)
        except RedisError as error:
            log.warning("a wake-up was not sent on", error=repr(error))

    async def told(self, user_id: str, seconds: float) -> None:
        await self._here.told(user_id, seconds)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear the other processes while the block runs."""
        task = asyncio.create_task(self._listen(), name="wake-ups from Redis")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(_CHANNEL)
                    async for message in subscription.listen():
                        await self._here.tell(message["data"].decode())
            except (RedisError, OSError) as error:
                log.warning("no wake-ups from Redis for now", error=repr(error))
                await asyncio.sleep(_RECONNECT_SECONDS)
