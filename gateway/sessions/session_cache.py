"""The session cache: sessions by token, read from the shared cache or from the auth service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from pydantic import ValidationError

from contracts.auth import (
    REVOCATION_TTL_SECONDS,
    REVOKED,
    SESSION_CACHE_TTL_SECONDS,
    CachedSession,
    Session,
    session_cache_key,
)
from contracts.base import utc_now
from contracts.callers import Caller
from contracts.errors import SessionEnded
from infrastructure.caching.batching import Batching
from infrastructure.caching.cache import Cache
from resolvers.clients.auth import AuthClient
from resolvers.tokens import token_hash

MAX_TOKEN_LENGTH = 200
"""Characters of a session token; the gateway treats a longer one as a token without a session."""
_MAX_BATCH_SIZE = 500
_MIN_TTL_SECONDS = 0.01
"""An entry that would expire sooner is not written."""
_REVOCATION_TTL = timedelta(seconds=REVOCATION_TTL_SECONDS)
_MAX_CLOCK_SKEW = timedelta(seconds=2)
"""Largest assumed difference between the clocks of two processes."""


class SessionCache:
    """Finds the session of a token in the shared cache, else at the auth service.

    A cache that becomes available again may contain outdated entries: it may lack a revocation, or contain one that
    was taken back. After a loss of the cache, entries that were written before it are therefore ignored.

    Args:
        cache_lost: an event that the change notifier sets each time this process loses its connection to the cache.
        max_age_seconds: the age above which a cached session is ignored. It must be 0 for a cache of this process
            only, because changes by other processes do not reach such a cache.
    """

    def __init__(
        self,
        cache: Cache,
        auth: AuthClient,
        cache_lost: asyncio.Event | None = None,
        clock: Callable[[], datetime] = utc_now,
        *,
        max_age_seconds: float = SESSION_CACHE_TTL_SECONDS,
    ) -> None:
        self._cache = cache
        self._auth = auth
        self._cache_lost = cache_lost or asyncio.Event()
        self._clock = clock
        self._entries: Batching[str] = Batching(self._read_entries, max_batch_size=_MAX_BATCH_SIZE, max_concurrent=2)
        self._max_age = timedelta(seconds=max_age_seconds)
        self._valid_from = clock() - _REVOCATION_TTL - _MAX_CLOCK_SKEW
        self.hits = self.misses = 0

    async def find(self, token: str, *, request_id: str) -> Session | None:
        """Return the session of the token; None if the token has no valid session.

        Raises:
            DomainError: neither the cache nor the auth service can answer.
        """
        entry = await self._entries.load(session_cache_key(token_hash(token)))
        now = self._clock()
        if self._cache_lost.is_set():
            self._cache_lost.clear()
            self._valid_from = now + _MAX_CLOCK_SKEW
        if entry == REVOKED and now > self._valid_from + _REVOCATION_TTL:
            return None
        if entry is not None and entry != REVOKED:
            with suppress(ValidationError):  # another release of the gateway may have written the entry
                cached = CachedSession.model_validate_json(entry)
                if max(self._valid_from, now - self._max_age) < cached.read_at:
                    self.hits += 1
                    return _unless_expired(cached.session, now)
        self.misses += 1
        return await self.find_uncached(token, request_id=request_id, expected_value=entry)

    async def find_uncached(self, token: str, *, request_id: str, expected_value: str | None = None) -> Session | None:
        """Return the session of the token as the auth service has it now, and write it into the cache.

        Args:
            expected_value: the present cache entry of the token, which the session replaces. Another entry stays.
        """
        if not 0 < len(token) <= MAX_TOKEN_LENGTH:
            return None
        hashed, read_at = token_hash(token), self._clock()
        try:
            session = await self._auth.get_current_session(Caller(request_id=request_id), hashed)
        except SessionEnded:
            return None
        await self._write_entry(
            session_cache_key(hashed), CachedSession(session=session, read_at=read_at), expected_value
        )
        return _unless_expired(session, self._clock())

    async def find_many_uncached(self, tokens: Sequence[str], *, request_id: str) -> dict[str, Session]:
        """Return the sessions as the auth service has them now, by token, without tokens that have no valid session."""
        hashes = {token_hash(token): token for token in tokens if 0 < len(token) <= MAX_TOKEN_LENGTH}
        if not hashes:
            return {}
        found = await self._auth.get_current_sessions(Caller(request_id=request_id), tuple(hashes))
        now = self._clock()
        return {hashes[each]: session for each, session in found.items() if session.expires_at > now}

    async def _read_entries(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Return the cache entries of the keys, which simultaneous calls of ``find`` have collected."""
        entries = await self._cache.get_many(keys)
        if entries is None:
            self._cache_lost.set()
            return {}
        return entries

    async def _write_entry(self, key: str, cached: CachedSession, expected_value: str | None) -> None:
        """Replace the expected entry only, so that a revocation published during the lookup is not overwritten."""
        seconds = (cached.read_at + self._max_age - self._clock()).total_seconds()
        if seconds < _MIN_TTL_SECONDS:
            return
        text = cached.model_dump_json()
        if expected_value is None:
            await self._cache.add(key, text, ttl_seconds=seconds)
        elif expected_value != REVOKED:
            await self._cache.replace(key, text, expected_value=expected_value, ttl_seconds=seconds)


def _unless_expired(session: Session, now: datetime) -> Session | None:
    return session if session.expires_at > now else None
