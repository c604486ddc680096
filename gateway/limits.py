"""How many requests users, their tenants and network addresses may make: decided in this process, counted by all.

A request costs a few lines of arithmetic here and no round trip. What was let through is added, in the background, to
the count that all processes share (``limits`` over Redis); who is over it there is refused until it has room again.
Without Redis, or while it is away, each process goes on by its own count.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from contracts.auth import Session
from contracts.cancelling import meanwhile
from contracts.errors import DomainError, RateLimited
from contracts.tenants import SubscriptionTier
from contracts.wakeups import woken
from gateway.session_watch import SessionWatch
from resolvers.context import Context

_REPORT_SECONDS = 0.5
_GATHER_SECONDS = 0.02
_REPORTED_SHARE = 50
"""A process keeps to itself up to a fiftieth of what somebody may do in a minute."""
_DEADLINE_SECONDS = 1.0
_AWAY_SECONDS = 5.0
_TIER_SECONDS = 300.0
_MOST_COUNTED = 100_000

log = structlog.get_logger()


@dataclass(frozen=True)
class Rates:
    """Requests a minute, of one user and of one tenant by its tier, and of one network address. 0: without a bound."""

    user: Mapping[SubscriptionTier, int] = field(default_factory=dict)
    tenant: Mapping[SubscriptionTier, int] = field(default_factory=dict)
    address: int = 0


class RequestLimits:
    """One a process. What is shared names addresses by a digest under ``secret``, for they are somebody's."""

    def __init__(self, rates: Rates, secret: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = rates
        self._secret = secret[:32]
        self._clock = clock
        self._counts: dict[str, _Count] = {}
        self._tiers: dict[str, tuple[SubscriptionTier, float]] = {}
        self._news = asyncio.Event()

    async def admit(self, context: Context) -> None:
        """Count what is to be executed for this client. Raises RateLimited."""
        if self._rates.address:
            network = hashlib.blake2s(context.client.network.encode(), key=self._secret, digest_size=12)
            self._spend(f"address:{network.hexdigest()}", self._rates.address)
        if context.token is None or not (self._rates.user or self._rates.tenant):
            return
        session = await _session_of(context)
        if session is not None:
            await self._spend_by_tier(f"user:{session.user_id}", self._rates.user, context, session)
            await self._spend_by_tier(f"tenant:{session.tenant_id}", self._rates.tenant, context, session)

    @asynccontextmanager
    async def shared(self, redis_url: str | None) -> AsyncIterator[None]:
        """While the block runs, the processes at that Redis count together."""
        async with (
            _shared_count(redis_url) as count,
            meanwhile(self._report_regularly(count), name="report requests"),
        ):
            yield

    async def _spend_by_tier(
        self, name: str, rates: Mapping[SubscriptionTier, int], context: Context, session: Session
    ) -> None:
        if not rates:
            return
        known = self._tiers.get(session.tenant_id)
        if known is not None and known[1] > self._clock():
            rate = rates.get(known[0], 0)
        else:  # which tier it is matters only to who does more than the lowest allows
            rate = min(rates.values())
            if rate and not self._has_room(name, rate):
                rate = rates.get(await self._learn_tier(context, session), 0)
        if rate:
            self._spend(name, rate)

    async def _learn_tier(self, context: Context, session: Session) -> SubscriptionTier:
        tier, seconds = (
            SubscriptionTier.ENTERPRISE,
            _AWAY_SECONDS,
        )  # who cannot be told is not held to less than they may
        with suppress(DomainError):
            tenants = await context.backend.tenants.tenants(context.caller(session), [session.tenant_id])
            tier, seconds = next((each.subscription_tier for each in tenants), SubscriptionTier.FREE), _TIER_SECONDS
        if len(self._tiers) >= _MOST_COUNTED:
            self._tiers.clear()
        self._tiers[session.tenant_id] = tier, self._clock() + seconds
        return tier

    def _has_room(self, name: str, rate: int) -> bool:
        count = self._counts.get(name)
        return count is None or count.wait(rate, self._clock()) <= 0

    def _spend(self, name: str, rate: int) -> None:
        now = self._clock()
        count = self._counts.get(name)
        if count is None:
            if len(self._counts) >= _MOST_COUNTED:
                self._forget(now)
            count = self._counts[name] = _Count(rate, now)
        wait = count.wait(rate, now)
        if wait > 0:
            raise RateLimited(retry_after=max(1, math.ceil(wait)))
        count.left -= 1
        count.unreported += 1
        if count.unreported > rate // _REPORTED_SHARE:
            self._news.set()

    def _forget(self, now: float) -> None:
        """Whoever was not here for a minute, for whom that is no gain; whoever it takes, where all were."""
        for name in [name for name, count in self._counts.items() if now - count.at > 60]:
            del self._counts[name]
        while len(self._counts) >= _MOST_COUNTED:
            del self._counts[next(iter(self._counts))]

    async def _report_regularly(self, shared: SlidingWindowCounterRateLimiter | None) -> None:
        pause = _GATHER_SECONDS
        while True:
            await asyncio.sleep(pause)
            await woken(self._news, _REPORT_SECONDS)
            self._news.clear()
            self._forget_the_idle()
            pause = _GATHER_SECONDS
            if shared is None:
                continue
            try:
                async with asyncio.timeout(_DEADLINE_SECONDS):
                    await self._report(shared)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("requests are counted by each process alone", error=repr(error))
                pause = _AWAY_SECONDS

    async def _report(self, shared: SlidingWindowCounterRateLimiter) -> None:
        for name, count in list(self._counts.items()):
            if (
                count.unreported <= count.rate // _REPORTED_SHARE
                or count.blocked_until > self._clock() + _REPORT_SECONDS
            ):
                continue
            spent, rate = count.unreported, count.rate
            if await shared.hit(RateLimitItemPerMinute(rate), name, cost=min(spent, rate)):
                count.unreported -= spent
                count.blocked_until = 0.0
            else:  # what it has spent too much is owed, until the shared count has had time for it
                count.blocked_until = self._clock() + max(1.0, spent * 60 / rate)

    def _forget_the_idle(self) -> None:
        now = self._clock()
        if len(self._counts) > 1_000:
            self._counts = {name: count for name, count in self._counts.items() if now - count.at <= 60}


class _Count:
    """A minute's requests at once, or one after the other as time gives them back."""

    __slots__ = ("at", "blocked_until", "left", "rate", "unreported")

    def __init__(self, rate: int, now: float) -> None:
        self.rate = rate
        self.left = float(rate)
        self.at = now
        self.unreported = 0
        self.blocked_until = 0.0

    def wait(self, rate: int, now: float) -> float:
        """Seconds until there is room for one more; 0 or less where there is."""
        if rate != self.rate:  # the tenant's tier was learnt, or is another now
            self.left += rate - self.rate
            self.rate, self.blocked_until = rate, 0.0
        self.left = min(float(rate), self.left + (now - self.at) * rate / 60)
        self.at = now
        return max(self.blocked_until - now, (1 - self.left) * 60 / rate)


@asynccontextmanager
async def _shared_count(redis_url: str | None) -> AsyncIterator[SlidingWindowCounterRateLimiter | None]:
    """What all processes count together in that Redis, which it connects to at first use; None without one."""
    if redis_url is None:
        yield None
        return
    pool = BlockingConnectionPool.from_url(redis_url, max_connections=4, timeout=_DEADLINE_SECONDS)
    try:
        storage = RedisStorage(
            redis_url,
            implementation="redispy",
            key_prefix="requests",
            connection_pool=pool,  # type: ignore[arg-type] # it is handed on as it is
        )
        yield SlidingWindowCounterRateLimiter(storage)
    finally:
        with suppress(RedisError, OSError):
            await pool.aclose()


async def _session_of(context: Context) -> Session | None:
    """Whose request it is; None where that cannot be told, for which its execution has the words."""
    sessions = context.backend.sessions
    known = sessions.known(context.token) if isinstance(sessions, SessionWatch) else None
    if known is not None:  # somebody stays with it; to count them it need not be looked up for each thing they ask
        return known
    with suppress(DomainError, TimeoutError):
        async with asyncio.timeout(_DEADLINE_SECONDS):
            return await context.viewer()
    return None
