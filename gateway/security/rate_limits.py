"""How many requests users, their tenants and client networks may make a minute."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field

from contracts.auth import Session
from contracts.errors import DomainError, RateLimited
from contracts.tenants import SubscriptionTier
from infrastructure.caching.cache import LocalCache
from infrastructure.limits.rate_limit import MAX_KEYS
from infrastructure.limits.shared_rate_limit import SharedRateLimiter
from infrastructure.redis_policy import RedisPolicy
from resolvers.context import Context

_SESSION_TIMEOUT_SECONDS = 1.0
_UNKNOWN_TIER_SECONDS = 5.0
_TIER_SECONDS = 300.0


@dataclass(frozen=True)
class RateLimits:
    """Requests a minute, of one user and of one tenant by its tier, and of one client network. 0: without a limit."""

    user: Mapping[SubscriptionTier, int] = field(default_factory=dict)
    tenant: Mapping[SubscriptionTier, int] = field(default_factory=dict)
    address: int = 0


class RateLimiter:
    """The rate limiter of one process. ``secret`` keys the digests that replace client networks in Redis."""

    def __init__(self, rates: RateLimits, secret: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = rates
        self._secret = secret[:32]
        self._limiter = SharedRateLimiter(clock)
        self._tiers: LocalCache[str, SubscriptionTier] = LocalCache(MAX_KEYS, clock)

    async def check(self, context: Context) -> None:
        """Count an execution for this client. Raises RateLimited."""
        if self._rates.address:
            network = hashlib.blake2s(context.client.network.encode(), key=self._secret, digest_size=12)
            self._consume(f"address:{network.hexdigest()}", self._rates.address)
        if context.token is None or not (self._rates.user or self._rates.tenant):
            return
        session = await _session_of(context)
        if session is not None:
            await self._consume_by_tier(f"user:{session.user_id}", self._rates.user, context, session)
            await self._consume_by_tier(f"tenant:{session.tenant_id}", self._rates.tenant, context, session)

    def shared(self, redis: RedisPolicy | None) -> AbstractAsyncContextManager[None]:
        """Count together with the other processes at that Redis while the block runs."""
        return self._limiter.shared(redis)

    async def _consume_by_tier(
        self, key: str, rates: Mapping[SubscriptionTier, int], context: Context, session: Session
    ) -> None:
        if not rates:
            return
        known = self._tiers.get(session.tenant_id)
        if known is not None:
            rate = rates.get(known, 0)
        else:  # the tier matters only to clients that exceed the limit of the lowest
            rate = min(rates.values())
            if rate and not self._limiter.has_room(key, rate):
                rate = rates.get(await self._load_tier(context, session), 0)
        if rate:
            self._consume(key, rate)

    def _consume(self, key: str, rate: int) -> None:
        wait = self._limiter.consume(key, rate)
        if wait > 0:
            raise RateLimited(retry_after=max(1, math.ceil(wait)))

    async def _load_tier(self, context: Context, session: Session) -> SubscriptionTier:
        # While the tier is unknown the limits of the highest tier apply.
        tier, seconds = SubscriptionTier.ENTERPRISE, _UNKNOWN_TIER_SECONDS
        with suppress(DomainError):
            tenants = await context.backend.tenants.get_tenants(context.caller(session), [session.tenant_id])
            tier, seconds = next((each.subscription_tier for each in tenants), SubscriptionTier.FREE), _TIER_SECONDS
        self._tiers.set(session.tenant_id, tier, ttl_seconds=seconds)
        return tier


async def _session_of(context: Context) -> Session | None:
    """Return the session of the request; None if it is unknown: the execution reports the error."""
    known = context.backend.sessions.known(context.token)
    if known is not None:  # an open stream keeps the session known: it need not be looked up for each request
        return known
    with suppress(DomainError, TimeoutError):
        async with asyncio.timeout(_SESSION_TIMEOUT_SECONDS):
            return await context.viewer()
    return None
