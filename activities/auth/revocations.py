"""Telling the edge, which trusts its copy of a session for a while, that the session is over."""

from __future__ import annotations

from typing import Protocol

from aiocache.base import BaseCache

from contracts.auth import HOT_SESSION_SECONDS, REVOKED, hot_session_key


class Revocations(Protocol):
    async def post(self, token_hash: str) -> None:
        """Whoever holds a copy of this session must not trust it any longer."""

    async def withdraw(self, token_hash: str) -> None:
        """The session lives again."""


class CachedRevocations:
    """Posts in the cache that the edge reads, in the place of the copy and for as long as one may be trusted."""

    def __init__(self, cache: BaseCache) -> None:
        self._cache = cache

    async def post(self, token_hash: str) -> None:
        await self._cache.set(hot_session_key(token_hash), REVOKED, ttl=HOT_SESSION_SECONDS)

    async def withdraw(self, token_hash: str) -> None:
        await self._cache.delete(hot_session_key(token_hash))
