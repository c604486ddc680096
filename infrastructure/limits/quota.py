"""Concurrency quotas: limits on the number of sockets, streams or transfers that one owner uses at the same time.

Each key has its own count, so the use by one owner never affects another owner. ``LocalQuota`` counts within this
process; ``DistributedQuota`` (in its own module) counts across all processes that use one Redis.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import NamedTuple, Protocol

from contracts.errors import QuotaExhausted

_RETRY_AFTER_SECONDS = 10.0


class QuotaKey(NamedTuple):
    """The limit of concurrent uses of one kind by one owner."""

    kind: str
    """What is counted, for instance "websocket_user" or "upload_url"."""
    owner: str
    """Whose use is counted: an id, a network address or a URL."""
    limit: int


class Quota(Protocol):
    """A concurrency quota per key."""

    def acquire(self, *keys: QuotaKey) -> AbstractAsyncContextManager[None]:
        """Count one use of each key while the block runs.

        Raises:
            QuotaExhausted: The limit of a key is reached; no key is counted.
        """

    def running(self) -> AbstractAsyncContextManager[None]:
        """Share the counts with other processes while the block runs."""


class LocalQuota:
    """A concurrency quota that counts in this process only."""

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
        """Count one use of each key while the block runs.

        Raises:
            QuotaExhausted: The limit of a key is reached; no key is counted.
        """
        requested = Counter((key.kind, key.owner) for key in keys)
        if any(self._held[key.kind, key.owner] + requested[key.kind, key.owner] > key.limit for key in keys):
            raise quota_exhausted()
        self._held.update(requested)
        try:
            yield
        finally:
            for name, count in requested.items():
                self._held[name] -= count
                if not self._held[name]:
                    del self._held[name]


def quota_exhausted() -> QuotaExhausted:
    """Return the error for a key whose limit is reached, with the seconds after which the client should retry."""
    return QuotaExhausted(retry_after=_RETRY_AFTER_SECONDS)
