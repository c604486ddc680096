"""How long the rate limiter caches a tenant's subscription tier, with a clock that the test sets."""

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
from tests.gateway.fakes import ACME, KEY, TOKEN, FakeServices, session, tenant

FREE, PRO = SubscriptionTier.FREE, SubscriptionTier.PROFESSIONAL
MINUTE = 60.0


class TierEnvironment:
    """A rate limiter that allows 10 requests per minute in the free tier and 20 in the professional tier."""

    def __init__(self) -> None:
        self.now = 0.0
        self.tier = PRO
        self.is_unavailable = False
        self.services = FakeServices({"tenants/get_tenants": self._tenants})
        http = httpx.AsyncClient(transport=self.services.transport)
        signer = ServiceTokenSigner("tenants", SecretKeys(KEY.encode()))
        breaker = CircuitBreaker("tenants", failure_threshold=1000)
        self.tenants = TenantsClient(ServiceClient("tenants", "http://tenants.test", http, signer, breaker))
        self.limiter = RateLimiter(RateLimits(user={FREE: 10, PRO: 20}), b"k" * 32, lambda: self.now)

    async def count_admitted(self, request_context: Context) -> int:
        """Return how many requests in a row are admitted before the first is refused."""
        for count in range(100):
            try:
                await self.limiter.check(request_context)
            except RateLimited:
                return count
        raise AssertionError

    @property
    def tier_lookups(self) -> int:
        """Number of calls to the tenants service."""
        return len(self.services.requests_to("tenants/get_tenants"))

    def _tenants(self, _caller: object, body: dict[str, Any]) -> Any:
        if self.is_unavailable:
            raise ServiceUnavailable(service="tenants")
        (id,) = body["ids"]
        return [tenant(id, "Acme").model_copy(update={"subscription_tier": self.tier})]


class SessionContext(Context):
    """A request context with this session and only the dependencies that the rate limiter needs."""

    def __init__(self, environment: TierEnvironment, found: Session) -> None:
        sessions = SimpleNamespace(cached=lambda _token: None)
        backend: Any = SimpleNamespace(sessions=sessions, tenants=environment.tenants, pseudonyms=Pseudonyms(b"k" * 32))
        cookie: Any = None
        super().__init__(
            backend, request_id="", base_url="", cookie=cookie, token=TOKEN, client=ClientInfo("192.0.2.1")
        )
        self._found = found

    async def viewer(self) -> Session | None:
        return self._found


async def test_caches_a_tier_for_300_seconds_and_then_reads_it_again() -> None:
    environment = TierEnvironment()
    request_context = SessionContext(environment, session())
    assert await environment.count_admitted(request_context) == 20
    assert environment.tier_lookups == 1

    environment.tier = FREE
    for environment.now in (100, 200, 299.9):
        assert await environment.count_admitted(request_context) == 20, "the cached tier still applies"
        assert environment.tier_lookups == 1
    environment.now = 400
    assert await environment.count_admitted(request_context) <= 10
    assert environment.tier_lookups == 2


async def test_does_not_use_a_cached_tier_after_300_seconds() -> None:
    environment = TierEnvironment()
    request_context = SessionContext(environment, session())
    await environment.count_admitted(request_context)
    environment.tier, environment.now = FREE, 300
    assert await environment.count_admitted(request_context) == 10
    assert environment.tier_lookups == 2


async def test_reads_a_tier_again_five_seconds_after_a_failed_lookup() -> None:
    environment = TierEnvironment()
    request_context = SessionContext(environment, session())
    environment.is_unavailable = True
    for _ in range(15):
        await environment.limiter.check(request_context)
    assert environment.tier_lookups == 1
    environment.is_unavailable, environment.tier = False, FREE
    environment.now = 4.9
    await environment.limiter.check(request_context)
    assert environment.tier_lookups == 1, "the earlier limits of the user apply until then"
    environment.now = 5
    with pytest.raises(RateLimited):
        await environment.limiter.check(request_context)
    assert environment.tier_lookups == 2


async def test_does_not_wait_longer_than_a_second_for_the_session() -> None:
    class HangingContext(SessionContext):
        async def viewer(self) -> Session | None:
            await asyncio.sleep(60)
            raise AssertionError

    environment = TierEnvironment()
    began = time.monotonic()
    await environment.limiter.check(HangingContext(environment, session()))
    assert 0.9 < time.monotonic() - began < 10


async def test_caches_a_limited_number_of_tiers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used tiers are removed."""
    monkeypatch.setattr(rate_limits, "MAX_KEYS", 2)
    environment = TierEnvironment()
    tenants = [ACME, "ten_" + "c" * 32, "ten_" + "d" * 32]
    contexts = [
        SessionContext(environment, session(user_id=f"usr_{number:032x}").model_copy(update={"tenant_id": each}))
        for number, each in enumerate(tenants)
    ]
    for request_context in contexts:
        await environment.count_admitted(request_context)
    assert environment.tier_lookups == 3
    environment.now = 2 * MINUTE
    for request_context in reversed(contexts):
        await environment.count_admitted(request_context)
    assert environment.tier_lookups == 4
