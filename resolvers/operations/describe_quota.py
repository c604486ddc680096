"""Quota for concurrent describe calls to Temporal, with a share for each client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.errors import DeadlineExceeded
from infrastructure.limits.fair_semaphore import FairSemaphore, Requester
from resolvers.error_translation import TEMPORAL

_MAX_CONCURRENT = 128
_MAX_CONCURRENT_PER_CLIENT = 16
"""Maximum number of concurrent calls for one user, or for one client network without a session."""
_MAX_CONCURRENT_PER_REQUEST = 8
_MAX_WAITING = 4_000
_WAIT_TIMEOUT_SECONDS = 4.0
"""Maximum time in the queue. A describe call takes three seconds at most, and a response must arrive within ten."""


class DescribeQuota:
    """Limits the concurrent describe calls of one process; a client holds at most its share of the slots."""

    def __init__(self) -> None:
        self._slots = FairSemaphore(
            _MAX_CONCURRENT,
            share=_MAX_CONCURRENT_PER_CLIENT,
            account_share=_MAX_CONCURRENT_PER_REQUEST,
            max_waiting=_MAX_WAITING,
        )

    @asynccontextmanager
    async def slot(self, requester: Requester) -> AsyncIterator[None]:
        """Hold a slot while the block runs.

        Raises:
            DeadlineExceeded: no slot became free in time.
            RateLimited: too many requests wait, most of them of this requester.
        """
        try:
            async with asyncio.timeout(_WAIT_TIMEOUT_SECONDS):
                await self._slots.acquire(requester)
        except TimeoutError as error:
            raise DeadlineExceeded(service=TEMPORAL) from error
        try:
            yield
        finally:
            self._slots.release(requester)
