"""How long a tenant's tier is believed, by a clock that the test sets."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from contracts.auth import Session
from contracts.errors import RateLimited, ServiceUnavailable
from contracts.tenants import SubscriptionTier
from gateway.security import rate_limits
from gateway.security.rate_limits import RateLimiter, RateLimits
from infrastructure.circuit_breaker import CircuitBreaker
from infrastructure.observability.pseudonyms import Pseudonyms
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner
from resolvers.clients.base import ServiceClient
from resolvers.clients.tenants import TenantsClient
from resolvers.context import Context
from resolvers.sign_in_throttle import ClientInfo
from tests.gateway.fakes import ACME, KEY, TOKEN, Services, session, tenant

FREE, PRO = SubscriptionTier.FREE, SubscriptionTier.PROFESSIONAL
MINUTE = 60.0


class World:
    """A limiter of ten requests a minute for a user of the lowest tier and of twenty for one of the next."""

    def __init__(self) -> None:
        self.now = 0.0
        self.tier = PRO
        self.is_away = False
        self.services = Services({"tenants/get_tenants": self._tenants})
        http = httpx.AsyncClient(transport=self.services.transport)
        signer = ServiceTokenSigner("tenants", SecretKeys(KEY.encode()))
        breaker = CircuitBreaker("tenants", failure_threshold=1000)
        self.tenants = TenantsClient(ServiceClient("tenants", "http://tenants.test", http, signer, breaker))
        self.limiter = RateLimiter(RateLimits(user={FREE: 10, PRO: 20}), b"k" * 32, lambda: self.now)

    async def let_through(self, who: Context) -> int:
        for count in range(100):
            try:
                await self.limiter.check(who)
            except RateLimited:
                return count
        raise AssertionError

    @property
    def asked(self) -> int:
        return len(self.services.asked("tenants/get_tenants"))

    def _tenants(self, _caller: object, body: dict[str, Any]) -> Any:
        if self.is_away:
            raise ServiceUnavailable(service="tenants")
        (id,) = body["ids"]
        return [tenant(id, "Acme").model_copy(update={"subscription_tier": self.tier})]


class SessionContext(Context):
    """The context of a request with this session, and the part of the backend that a rate limit needs."""

    def __init__(self, world: World, found: Session) -> None:
        sessions = SimpleNamespace(cached=lambda _token: None)
        backend: Any = SimpleNamespace(sessions=sessions, tenants=world.tenants, pseudonyms=Pseudonyms(b"k" * 32))
        cookie: Any = None
        super().__init__(
            backend, request_id="", base_url="", cookie=cookie, token=TOKEN, client=ClientInfo("192.0.2.1")
        )
        self._found = found

    async def viewer(self) -> Session | None:
        return self._found


async def test_a_tier_is_believed_for_300_seconds_and_then_asked_for_anew() -> None:
    world = World()
    who = SessionContext(world, session())
    assert await world.let_through(who) == 20
    assert world.asked == 1

    world.tier = FREE
    for world.now in (100, 200, 299.9):
        assert await world.let_through(who) == 20, "it counts as what it was"
        assert world.asked == 1
    world.now = 400
    assert await world.let_through(who) <= 10
    assert world.asked == 2


async def test_a_tier_is_not_believed_for_longer_than_300_seconds() -> None:
    world = World()
    who = SessionContext(world, session())
    await world.let_through(who)
    world.tier, world.now = FREE, 300
    assert await world.let_through(who) == 10
    assert world.asked == 2


async def test_a_tier_that_could_not_be_found_out_is_asked_for_again_after_five_seconds() -> None:
    world = World()
    who = SessionContext(world, session())
    world.is_away = True
    for _ in range(15):
        await world.limiter.check(who)
    assert world.asked == 1
    world.is_away, world.tier = False, FREE
    world.now = 4.9
    await world.limiter.check(who)
    assert world.asked == 1, "the earlier limits of its user apply until then"
    world.now = 5
    with pytest.raises(RateLimited):
        await world.limiter.check(who)
    assert world.asked == 2


async def test_a_session_that_is_not_found_within_a_second_holds_up_nothing() -> None:
    class Silent(SessionContext):
        async def viewer(self) -> Session | None:
            await asyncio.sleep(60)
            raise AssertionError

    world = World()
    began = time.monotonic()
    await world.limiter.check(Silent(world, session()))
    assert 0.9 < time.monotonic() - began < 10


async def test_only_so_many_tiers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were asked for last."""
    monkeypatch.setattr(rate_limits, "MAX_KEYS", 2)
    world = World()
    tenants = [ACME, "ten_" + "c" * 32, "ten_" + "d" * 32]
    people = [
        SessionContext(world, session(user_id=f"usr_{number:032x}").model_copy(update={"tenant_id": each}))
        for number, each in enumerate(tenants)
    ]
    for who in people:
        await world.let_through(who)
    assert world.asked == 3
    world.now = 2 * MINUTE
    for who in reversed(people):
        await world.let_through(who)
    assert world.asked == 4
