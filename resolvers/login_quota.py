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
from resolvers.operations.lifecycle import OperationLifecycle

_MAX_CONCURRENT_LOGINS = 64
_SHARE_PER_CLIENT = 16
_SHARE_PER_ACCOUNT = 4
_MAX_WAITING = 400
_WAIT_TIMEOUT_SECONDS = 5.0
_RETRY_AFTER_SECONDS = 5.0
_HOLD_TIMEOUT_SECONDS = 5.0
"""Longest time for which a login holds its slot: while no worker runs, logins do not close and would hold all slots."""

log = structlog.get_logger()


class LoginQuota:
    """Limits the number of logins that one process runs concurrently.

    Temporal and the workers execute logins in the order of their start. Without shares, an attacker who knows the
    password of one account could delay all other logins.
    """

    def __init__(self, operations: OperationLifecycle, *, hold_timeout_seconds: float = _HOLD_TIMEOUT_SECONDS) -> None:
        self._operations = operations
        self._hold_timeout_seconds = hold_timeout_seconds
        self._slots = FairSemaphore(
            _MAX_CONCURRENT_LOGINS, share=_SHARE_PER_CLIENT, account_share=_SHARE_PER_ACCOUNT, max_waiting=_MAX_WAITING
        )
        self._tasks = BackgroundTasks()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._tasks.aclose()

    @asynccontextmanager
    async def slot(self, requester: Requester) -> AsyncIterator[Callable[[Operation], None]]:
        """Acquire a slot for a login; release it after the login has settled, but at the latest after the hold timeout.

        The block starts the login and passes it to the yielded function. If the block passes no login, the slot is
        released at the end of the block.

        Raises:
            RateLimited: no slot of the requester's share became free in time, or too many logins are waiting.
        """
        try:
            async with asyncio.timeout(_WAIT_TIMEOUT_SECONDS):
                await self._slots.acquire(requester)
        except TimeoutError as error:
            raise RateLimited(retry_after=_RETRY_AFTER_SECONDS) from error
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
            async with asyncio.timeout(self._hold_timeout_seconds):
                await self._operations.wait_until_settled(login)
        except TimeoutError:
            pass
        except Exception as error:  # noqa: BLE001 - subscribers of the login receive the error
            log.warning("login_end_unknown", error=repr(error))
        finally:
            self._slots.release(requester)
