"""Telling the edge, which trusts its copy of a session for a while, that the session is over."""

from __future__ import annotations

from typing import Protocol

import structlog
from aiocache.base import BaseCache
from redis.exceptions import RedisError

from contracts.auth import HOT_SESSION_SECONDS, REVOKED, hot_session_key
from contracts.wakeups import Wakeups

_UNREACHABLE = (RedisError, OSError, TimeoutError)
_log = structlog.get_logger(__name__)


class Revocations(Protocol):
    async def post(self, token_hash: str) -> None:
        """Whoever holds a copy of this session must not trust it any longer."""

    async def withdraw(self, token_hash: str) -> None:
        """The session lives again."""


class CachedRevocations:
    """Posts in the cache that the edge reads, in the place of the copy and for as long as one may be trusted, and wakes
    the edge up, so that whoever stays with the session goes.

    A cache that does not answer is logged and no more: what is posted is committed already, and within that time the
    copies expire by themselves.
    """

    def __init__(self, cache: BaseCache, wakeups: Wakeups) -> None:
        self._cache = cache
        self._wakeups = wakeups

    async def post(self, token_hash: str) -> None:
        try:
            await self._cache.set(hot_session_key(token_hash), REVOKED, ttl=HOT_SESSION_SECONDS)
        except _UNREACHABLE as error:
            _log.warning("revocation_not_posted", error=repr(error))
        await self._wakeups.tell(hot_session_key(token_hash))

    async def withdraw(self, token_hash: str) -> None:
        try:
            await self._cache.delete(hot_session_key(token_hash))
        except _UNREACHABLE as error:
            _log.warning("revocation_not_withdrawn", error=repr(error))
