"""Publication of revoked sessions to the gateways, which trust a cached session for a short time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from contracts.auth import REVOCATION_TTL_SECONDS, REVOKED, session_cache_key
from infrastructure.caching.cache import Cache
from infrastructure.change_notifications import ChangeNotifier

_RETRY_INTERVAL_SECONDS = 0.5
_log = structlog.get_logger(__name__)


class RevocationPublisher(Protocol):
    """Publishes to the gateways which sessions are no longer valid."""

    async def publish(self, token_hash: str) -> None:
        """Publish that the session of this token hash is revoked, so that no gateway trusts a cached copy of it."""

    async def retract(self, token_hash: str) -> None:
        """Retract the revocation of a session that is valid again."""


class CacheRevocationPublisher:
    """Publishes revocations through the shared cache and by change notifications.

    It replaces the cached session by a marker, for longer than the gateways trust their copies, and sends a change
    notification, so that the gateways end the streams of the session. If the cache is unavailable, this is logged and
    no error is raised, because the revocation is committed and copies expire. ``retry_pending`` repeats the
    publication, so that a cache that is available again contains no copy of the session.
    """

    def __init__(
        self, cache: Cache, change_notifier: ChangeNotifier, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cache = cache
        self._change_notifier = change_notifier
        self._clock = clock
        self._pending: dict[str, float] = {}

    async def publish(self, token_hash: str) -> None:
        if not await self._set(token_hash):
            self._pending[token_hash] = self._clock() + REVOCATION_TTL_SECONDS
        await self._change_notifier.notify(session_cache_key(token_hash))

    async def retract(self, token_hash: str) -> None:
        self._pending.pop(token_hash, None)
        if not await self._cache.delete(session_cache_key(token_hash), always=True):
            _log.warning("revocation_not_retracted")

    async def retry_regularly(self) -> None:
        """Repeat the failed publications at an interval, until cancelled."""
        while True:
            await asyncio.sleep(_RETRY_INTERVAL_SECONDS)
            await self.retry_pending()

    async def retry_pending(self) -> None:
        """Repeat the failed publications once; stop at the first one that fails again."""
        for token_hash, until in list(self._pending.items()):
            if until > self._clock():
                if token_hash in self._pending and not await self._set(token_hash):
                    return
                await self._change_notifier.notify(session_cache_key(token_hash))
            self._pending.pop(token_hash, None)

    async def _set(self, token_hash: str) -> bool:
        """Set the marker even if Redis is known to be unavailable: it may be available again with an outdated copy."""
        is_set = await self._cache.set_many(
            {session_cache_key(token_hash): REVOKED}, ttl_seconds=REVOCATION_TTL_SECONDS, always=True
        )
        if not is_set:
            _log.warning("revocation_not_published")
        return is_set
