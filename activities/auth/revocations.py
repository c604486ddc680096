"""Telling the edge, which trusts its copy of a session for a while, that the session is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from contracts.auth import REVOKED, REVOKED_SECONDS, hot_session_key
from infrastructure.caching.cache import Cache
from infrastructure.change_notifications import ChangeNotifier

_AGAIN_SECONDS = 0.5
_log = structlog.get_logger(__name__)


class RevocationPublisher(Protocol):
    async def post(self, token_hash: str) -> None:
        """Whoever holds a copy of this session must not trust it any longer."""

    async def withdraw(self, token_hash: str) -> None:
        """The session lives again."""


class CacheRevocationPublisher:
    """Replaces the cached copy of a session by a mark, for longer than the gateways may trust a copy of theirs, and
    sends a change notification, so that the gateways end the streams of the session.

    A cache that does not answer is logged and fails nothing: what is posted is committed already, and copies expire by
    themselves. Until then ``post_owed`` posts it again, so that a cache that answers again holds no copy of it.
    """

    def __init__(self, cache: Cache, wakeups: ChangeNotifier, clock: Callable[[], float] = time.monotonic) -> None:
        self._cache = cache
        self._wakeups = wakeups
        self._clock = clock
        self._owed: dict[str, float] = {}

    async def post(self, token_hash: str) -> None:
        if not await self._set(token_hash):
            self._owed[token_hash] = self._clock() + REVOKED_SECONDS
        await self._wakeups.tell(hot_session_key(token_hash))

    async def withdraw(self, token_hash: str) -> None:
        self._owed.pop(token_hash, None)
        if not await self._cache.delete(hot_session_key(token_hash), always=True):
            _log.warning("revocation_not_withdrawn")

    async def post_regularly(self) -> None:
        """Until cancelled, post again what did not get through."""
        while True:
            await asyncio.sleep(_AGAIN_SECONDS)
            await self.post_owed()

    async def post_owed(self) -> None:
        """Once, as long as the cache takes it."""
        for token_hash, until in list(self._owed.items()):
            if until > self._clock():
                if token_hash in self._owed and not await self._set(token_hash):
                    return
                await self._wakeups.tell(hot_session_key(token_hash))
            self._owed.pop(token_hash, None)

    async def _set(self, token_hash: str) -> bool:
        """Try even if Redis is known to be unavailable: it may have returned with a copy from before."""
        is_set = await self._cache.set_many(
            {hot_session_key(token_hash): REVOKED}, ttl_seconds=REVOKED_SECONDS, always=True
        )
        if not is_set:
            _log.warning("revocation_not_posted")
        return is_set
