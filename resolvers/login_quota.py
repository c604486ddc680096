"""A concurrency quota for logins, with a share for each account and each client network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import structlog

from contracts.errors import RateLimited
from contracts.operations import Operation
from infrastructure.limits.fair_semaphore import FairSemaphore, Requester
from infrastructure.tasks import BackgroundTasks
from resolvers.operations.operations import Operations

_LOGINS = 64
_CLIENT_SHARE = 16
_ACCOUNT_SHARE = 4
_MAX_WAITING = 400
_WAIT_SECONDS = 5.0
_RETRY_SECONDS = 5.0
_HELD_SECONDS = 5.0
"""How long a login holds its slot at most: workers that are away must not keep others from starting theirs."""

log = structlog.get_logger()


class LoginQuota:
    """Bounds the logins that one process runs at a time.

    Temporal and the workers serve logins in the order of their start. Without shares, the logins of one account whose
    password is known would delay all others.
    """

    def __init__(self, operations: Operations, *, held_seconds: float = _HELD_SECONDS) -> None:
        self._operations = operations
        self._held_seconds = held_seconds
        self._slots = FairSemaphore(
            _LOGINS, share=_CLIENT_SHARE, account_share=_ACCOUNT_SHARE, max_waiting=_MAX_WAITING
        )
        self._tasks = BackgroundTasks()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._tasks.aclose()

    @asynccontextmanager
    async def starting(self, requester: Requester) -> AsyncIterator[Callable[[Operation], None]]:
        """Hold a slot while the block starts a login, and then until the login that the block names has settled.

        Raises:
            RateLimited: the requester's share stays used up, or too many logins wait, most of them of this requester.
        """
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._slots.acquire(requester)
        except TimeoutError as error:
            raise RateLimited(retry_after=_RETRY_SECONDS) from error
        started: list[Operation] = []
        try:
            yield started.append
        finally:
            if started:
                self._tasks.start(self._release_later(started[0], requester), name="await the end of a login")
            else:
                self._slots.release(requester)

    async def _release_later(self, login: Operation, requester: Requester) -> None:
        try:
            async with asyncio.timeout(self._held_seconds):
                await self._operations.settled(login)
        except TimeoutError:
            pass
        except Exception as error:  # noqa: BLE001 - subscribers of the login receive the error
            log.warning("the end of a login is not known", error=repr(error))
        finally:
            self._slots.release(requester)
