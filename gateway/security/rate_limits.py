"""Rate limits: GraphQL operations per minute of each user, each tenant and each client network."""

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
_UNKNOWN_TIER_TTL_SECONDS = 5.0
"""Time after which a tier that could not be read is requested again."""
_TIER_TTL_SECONDS = 300.0


@dataclass(frozen=True)
class RateLimits:
    """Operations per minute; 0 means no limit.

    Attributes:
        user: the limit of one user, by the tier of the tenant that the user works in.
        tenant: the limit of all users of one tenant together, by its tier.
        address: the limit of one client network.
    """

    user: Mapping[SubscriptionTier, int] = field(default_factory=dict)
    tenant: Mapping[SubscriptionTier, int] = field(default_factory=dict)
    address: int = 0


class RateLimiter:
    """The rate limiter of one process, which may share its counts with other processes through Redis.

    Args:
        rates: the limits.
        secret: the key of the digests that replace client networks in the keys in Redis.
        clock: returns the time in seconds.
    """

    def __init__(self, rates: RateLimits, secret: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = rates
        self._secret = secret[:32]
        self._limiter = SharedRateLimiter(clock)
        self._tiers: LocalCache[str, SubscriptionTier] = LocalCache(MAX_KEYS, clock)

    async def check(self, context: Context) -> None:
        """Count one operation for client network, user and tenant.

        Raises:
            RateLimited: a limit is exceeded; the error has the time for a retry.
        """
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
        """Share the counts with all processes that use the same Redis while the block runs; None: do not share them."""
        return self._limiter.shared(redis)

    async def _consume_by_tier(
        self, key: str, rates: Mapping[SubscriptionTier, int], context: Context, session: Session
    ) -> None:
        if not rates:
            return
        tier = self._tiers.get(session.tenant_id)
        if tier is not None:
            rate = rates.get(tier, 0)
        else:  # the tier is read only for clients that exceed the limit of the lowest tier
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
        # While the tier is unknown, the limits of the highest tier apply.
        tier, seconds = SubscriptionTier.ENTERPRISE, _UNKNOWN_TIER_TTL_SECONDS
        with suppress(DomainError):
            tenants = await context.backend.tenants.get_tenants(context.caller(session), [session.tenant_id])
            tier, seconds = next((each.subscription_tier for each in tenants), SubscriptionTier.FREE), _TIER_TTL_SECONDS
        self._tiers.set(session.tenant_id, tier, ttl_seconds=seconds)
        return tier


async def _session_of(context: Context) -> Session | None:
    """Return the session of the request; None if it cannot be read: then the execution reports the error."""
    watched = context.backend.sessions.cached(context.token)
    if watched is not None:  # the session of an open stream is kept current, so it is not read for each request
        return watched
    with suppress(DomainError, TimeoutError):
        async with asyncio.timeout(_SESSION_TIMEOUT_SECONDS):
            return await context.viewer()
    return None
