"""Concurrency quotas: how many of a kind one holder may have at a time.

Each key has a count of its own, so one holder's use never affects another's. ``LocalQuota`` counts in this process.
``DistributedQuota`` counts in all processes at one Redis.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import NamedTuple, Protocol

from contracts.errors import QuotaExhausted

_RETRY_SECONDS = 10.0


class QuotaKey(NamedTuple):
    """``limit`` holders of this ``kind`` (what is counted: "websocket_user", "upload_url", ...) at a time for ``owner``
    (whose use is counted: an id, an address, a URL).
    """

    kind: str
    owner: str
    limit: int


class Quota(Protocol):
    """A concurrency quota per key."""

    def acquire(self, *keys: QuotaKey) -> AbstractAsyncContextManager[None]:
        """Hold one of each key while the block runs, or none of any where one key is exhausted.

        Raises:
            QuotaExhausted: a key is exhausted.
        """

    def running(self) -> AbstractAsyncContextManager[None]:
        """Keep the count known to other processes while the block runs."""


class LocalQuota:
    """A concurrency quota per key that counts in this process only; it raises QuotaExhausted."""

    def __init__(self) -> None:
        self._held: Counter[tuple[str, str]] = Counter()

    @asynccontextmanager
    async def acquire(self, *keys: QuotaKey) -> AsyncIterator[None]:
        with self.hold(keys):
            yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield

    @contextmanager
    def hold(self, keys: Sequence[QuotaKey]) -> Iterator[None]:
        """Hold one of each key while the block runs. Raises QuotaExhausted before it holds any."""
        wanted = Counter((key.kind, key.owner) for key in keys)
        if any(self._held[key.kind, key.owner] + wanted[key.kind, key.owner] > key.limit for key in keys):
            raise exhausted()
        self._held.update(wanted)
        try:
            yield
        finally:
            for name, count in wanted.items():
                self._held[name] -= count
                if not self._held[name]:
                    del self._held[name]


def exhausted() -> QuotaExhausted:
    """Return the error for a key that has no more."""
    return QuotaExhausted(retry_after=_RETRY_SECONDS)
