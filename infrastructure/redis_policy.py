"""Access to Redis, with one policy for the time in which Redis is unavailable.

Only this module creates clients of Redis (a test forbids it elsewhere). Each command names what happens while Redis is
unavailable, as one of three behaviours:

- ``bypass``  the caller goes on without the result
- ``local``   the in-process variant does the work, for this process alone
- ``refuse``  the request fails with UPSTREAM_UNAVAILABLE (``redis``)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self, TypeAlias, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from contracts.errors import ServiceUnavailable
from infrastructure.deadlines import deadline
from infrastructure.tasks import supervised

TIMEOUT_SECONDS = 0.5
"""For each command, or for the commands of one pipeline."""
CONNECTION_TIMEOUT_SECONDS = 5.0
"""For a command that waits for a free connection; the time limit of the command begins afterwards."""
PROBE_INTERVAL_SECONDS = 0.5
"""Between two pings while Redis is unavailable."""
_MAX_CONNECTIONS = 50
"""Of a process. A command waits until one is free."""
_UNAVAILABLE = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)

Value = TypeVar("Value")
Default = TypeVar("Default")
Command: TypeAlias = Callable[[Redis], Awaitable[Value]]

log = structlog.get_logger(__name__)


class _CommandFailed(Exception):
    """Redis is unavailable, or has refused the command. The cause says which."""


class RedisPolicy:
    """The Redis of one process. It connects at first use, so a process starts while Redis is unavailable.

    The first command that fails or takes longer than ``timeout_seconds`` makes Redis unavailable: further commands
    fail at once, without a call, until a ping succeeds. Both changes are logged, once each. A command that Redis
    refuses, for instance because a key has another type, fails alone.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        probe_interval_seconds: float = PROBE_INTERVAL_SECONDS,
        instrument: Callable[[Redis], None] | None = None,
    ) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._probe_interval_seconds = probe_interval_seconds
        self._redis = _client(url, timeout_seconds)
        if instrument is not None:
            instrument(self._redis)
        self._connections = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._failed = asyncio.Event()
        self._unavailable_since: float | None = None

    @property
    def is_available(self) -> bool:
        return self._unavailable_since is None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Notice when Redis is available again while the block runs, and close the connections after it."""
        async with self._redis, supervised(self._probe, name="probe Redis"):
            yield self

    async def bypass(self, command: Command[Value], default: Default, *, always: bool = False) -> Value | Default:
        """Return the result of the command, or ``default`` while Redis is unavailable.

        Args:
            command: The call, whose only access to Redis is the client that it receives.
            default: The result while Redis is unavailable.
            always: Try even while Redis is unavailable; for a command whose loss leaves outdated data to others.
        """
        try:
            return await self._execute(command, always=always)
        except _CommandFailed:
            return default

    async def local(self, command: Command[Value], fallback: Callable[[], Awaitable[Value]]) -> Value:
        """Return the result of the command, or of its in-process variant while Redis is unavailable."""
        try:
            return await self._execute(command)
        except _CommandFailed:
            return await fallback()

    async def refuse(self, command: Command[Value]) -> Value:
        """Return the result of the command.

        Raises:
            ServiceUnavailable: Redis is unavailable.
        """
        try:
            return await self._execute(command)
        except _CommandFailed as failed:
            raise ServiceUnavailable(service="redis") from failed.__cause__

    async def ping(self) -> bool:
        """Return True if Redis responds, also while it counts as unavailable; otherwise raise an error."""
        return await self._execute(lambda redis: redis.ping(), always=True)

    def subscriber(self) -> Redis:
        """Return a client for subscriptions, which hold a connection. It does not retry; its user closes it."""
        return Redis.from_url(self._url, retry=Retry(NoBackoff(), 0))

    async def _execute(self, command: Command[Value], *, always: bool = False) -> Value:
        if not (self.is_available or always):
            raise _CommandFailed
        try:
            async with asyncio.timeout(CONNECTION_TIMEOUT_SECONDS):
                await self._connections.acquire()
        except TimeoutError as error:
            raise _CommandFailed from error
        try:
            if not (self.is_available or always):
                raise _CommandFailed
            return await self._execute_in_time(command)
        finally:
            self._connections.release()

    async def _execute_in_time(self, command: Command[Value]) -> Value:
        try:
            async with deadline(self._timeout_seconds):
                return await command(self._redis)
        except _UNAVAILABLE as error:
            self._note_unavailable(error)
            raise _CommandFailed from error
        except RedisError as error:
            log.error("redis_command_failed", error=_text(error))
            raise _CommandFailed from error

    def _note_unavailable(self, error: BaseException) -> None:
        self._failed.set()
        if self._unavailable_since is None:
            self._unavailable_since = asyncio.get_running_loop().time()
            log.warning("redis_unavailable", error=_text(error))

    async def _probe(self) -> None:
        while True:
            await self._failed.wait()
            try:
                async with deadline(self._timeout_seconds):
                    await self._redis.ping()
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(self._probe_interval_seconds)
                continue
            self._failed.clear()
            seconds = asyncio.get_running_loop().time() - (self._unavailable_since or 0.0)
            self._unavailable_since = None
            log.info("redis_available", unavailable_seconds=round(seconds, 3))


def _text(error: BaseException) -> str:
    """Return the error for the log; redis-py's own representation has no message."""
    return f"{type(error).__name__}: {error}"


def _client(url: str, timeout_seconds: float) -> Redis:
    # One retry, because a connection that Redis has closed is noticed by using it.
    retry = Retry(NoBackoff(), 1)
    return Redis.from_pool(
        BlockingConnectionPool.from_url(url, max_connections=_MAX_CONNECTIONS, timeout=timeout_seconds, retry=retry)
    )
