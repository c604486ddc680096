"""Access to Redis, and the three behaviours of commands while Redis is unavailable.

Only this module creates clients of Redis (a test enforces this). Each command chooses one of the behaviours:

- ``bypass``: the caller receives a default and continues without the result
- ``local``: a fallback within this process produces the result
- ``refuse``: the request fails with UPSTREAM_UNAVAILABLE (``service: redis``)
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
"""Time limit of one command, or of all commands of one pipeline."""
CONNECTION_TIMEOUT_SECONDS = 5.0
"""Time limit of waiting for a free connection; the time limit of the command begins afterwards."""
PROBE_INTERVAL_SECONDS = 0.5
"""Interval of the pings while Redis is unavailable."""
_MAX_CONNECTIONS = 50
"""Connections of one process. A command waits until a connection is free."""
_UNAVAILABLE = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)

Value = TypeVar("Value")
Default = TypeVar("Default")
Command: TypeAlias = Callable[[Redis], Awaitable[Value]]

log = structlog.get_logger(__name__)


class _CommandFailed(Exception):
    """Redis is unavailable or has rejected the command; ``__cause__`` is the error of the client."""


class RedisPolicy:
    """Executes the Redis commands of one process. It connects at first use, so a process starts without Redis.

    After the first command that cannot be delivered or takes longer than ``timeout_seconds``, Redis counts as
    unavailable: further commands fail at once, without a call, until a ping succeeds. Each of the two changes is logged
    once. A command that Redis rejects, for instance because a key has another type, makes only itself fail.

    Args:
        url: Address of Redis (``redis://``, ``rediss://`` or ``unix://``).
        timeout_seconds: Time limit of a command.
        probe_interval_seconds: Interval of the pings while Redis is unavailable.
        instrument: Receives the client, for instance to trace its commands.
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
        """Whether commands are sent to Redis at the moment."""
        return self._unavailable_since is None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Probe Redis while the block runs and Redis is unavailable; close the connections after the block."""
        async with self._redis, supervised(self._probe, name="probe Redis"):
            yield self

    async def bypass(self, command: Command[Value], default: Default, *, always: bool = False) -> Value | Default:
        """Return the result of the command, or ``default`` while Redis is unavailable.

        Args:
            command: A function that receives the client and awaits one command or pipeline.
            default: The result while Redis is unavailable.
            always: Send the command even while Redis is unavailable; for commands that remove outdated data.
        """
        try:
            return await self._execute(command, always=always)
        except _CommandFailed:
            return default

    async def local(self, command: Command[Value], fallback: Callable[[], Awaitable[Value]]) -> Value:
        """Return the result of the command, or the result of ``fallback`` while Redis is unavailable."""
        try:
            return await self._execute(command)
        except _CommandFailed:
            return await fallback()

    async def refuse(self, command: Command[Value]) -> Value:
        """Return the result of the command.

        Raises:
            ServiceUnavailable: Redis is unavailable or has rejected the command.
        """
        try:
            return await self._execute(command)
        except _CommandFailed as failed:
            raise ServiceUnavailable(service="redis") from failed.__cause__

    async def ping(self) -> bool:
        """Return True if Redis responds, even while it counts as unavailable; otherwise raise an error."""
        return await self._execute(lambda redis: redis.ping(), always=True)

    def subscriber(self) -> Redis:
        """Return a client for subscriptions, which hold a connection. It does not retry. The caller closes it."""
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
            return await self._execute_with_deadline(command)
        finally:
            self._connections.release()

    async def _execute_with_deadline(self, command: Command[Value]) -> Value:
        try:
            async with deadline(self._timeout_seconds):
                return await command(self._redis)
        except _UNAVAILABLE as error:
            self._mark_unavailable(error)
            raise _CommandFailed from error
        except RedisError as error:
            log.error("redis_command_failed", error=_describe(error))
            raise _CommandFailed from error

    def _mark_unavailable(self, error: BaseException) -> None:
        self._failed.set()
        if self._unavailable_since is None:
            self._unavailable_since = asyncio.get_running_loop().time()
            log.warning("redis_unavailable", error=_describe(error))

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


def _describe(error: BaseException) -> str:
    """Return class and message of an error for the log; the ``repr`` of redis-py's errors contains no message."""
    return f"{type(error).__name__}: {error}"


def _client(url: str, timeout_seconds: float) -> Redis:
    # One retry, because the client notices that Redis has closed a connection only when it uses the connection.
    retry = Retry(NoBackoff(), 1)
    return Redis.from_pool(
        BlockingConnectionPool.from_url(url, max_connections=_MAX_CONNECTIONS, timeout=timeout_seconds, retry=retry)
    )
