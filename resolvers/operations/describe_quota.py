"""A concurrency quota for describe calls to Temporal, with a share for each client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.errors import DeadlineExceeded
from infrastructure.limits.fair_semaphore import FairSemaphore, Requester
from resolvers.error_translation import TEMPORAL

_MAX_CONCURRENT = 128
_SHARE = 16
"""Of these, for one user, or for one client network without a session."""
_SHARE_OF_REQUEST = 8
_MAX_WAITING = 4_000
_WAIT_TIMEOUT_SECONDS = 4.0
"""A describe call itself takes three seconds at most, and an answer comes within ten."""


class DescribeQuota:
    """Bounds the describe calls of one process. A request waits for a slot; one client uses at most its share."""

    def __init__(self) -> None:
        self._slots = FairSemaphore(
            _MAX_CONCURRENT, share=_SHARE, account_share=_SHARE_OF_REQUEST, max_waiting=_MAX_WAITING
        )

    @asynccontextmanager
    async def slot(self, requester: Requester) -> AsyncIterator[None]:
        """Hold a slot while the block runs.

        Raises:
            DeadlineExceeded: none was free in time.
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
