"""Rate limits of users, tenants and networks, in one process and in several that share Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from contracts.errors import RateLimited, ServiceUnavailable
from contracts.tenants import SubscriptionTier
from gateway.security.rate_limits import RateLimiter, RateLimits
from resolvers.context import Context
from resolvers.sign_in_throttle import ClientInfo
from resolvers.tokens import token_hash
from tests.gateway.fakes import ACME, ADA, TOKEN, FakeServices, error_extensions, session, settings, tenant
from tests.gateway.live_gateway import Gateway, authorization, running_gateway
from tests.redis_access import open_redis
from tests.servers import running_redis
from worker.dev.ports import free_port

VIEWER_QUERY = "{ viewer { user { id } } }"
SIGNED_IN_AS_ADA = {"data": {"viewer": {"user": {"id": ADA}}}}
LOGIN = "mutation ($input: LoginInput!) { login(input: $input) { operation { id } } }"
FREE, PRO = SubscriptionTier.FREE, SubscriptionTier.PROFESSIONAL


class ClientContext(Context):
    """A request context that contains only the client's network."""

    def __init__(self, network: str = "192.0.2.1") -> None:
        self.client = ClientInfo(network)
        self.token = None


async def count_admitted(limiter: RateLimiter, context: ClientContext, requests: int) -> int:
    """Return how many of this number of requests are admitted."""
    admitted, waits = 0, list[float]()
    for _ in range(requests):
        try:
            await limiter.check(context)
        except RateLimited as refused:
            waits.append(refused.retry_after or 0)
        else:
            admitted += 1
    assert all(wait >= 1 and wait == int(wait) for wait in waits)
    return admitted


def limiter_with(address: int, clock: Any = time.monotonic) -> RateLimiter:
    """Return a rate limiter of networks with this many requests per minute."""
    return RateLimiter(RateLimits(address=address), b"k" * 32, clock)


async def test_admits_the_requests_of_a_minute_at_once_and_then_one_by_one() -> None:
    now = 0.0
    limiter = limiter_with(60, lambda: now)

    assert await count_admitted(limiter, ClientContext(), 100) == 60
    now += 10
    assert await count_admitted(limiter, ClientContext(), 100) == 10
    assert await count_admitted(limiter, ClientContext("192.0.2.2"), 100) == 60


async def test_a_limit_of_zero_is_unlimited() -> None:
    assert await count_admitted(limiter_with(0), ClientContext(), 1000) == 1000


async def test_processes_that_share_redis_enforce_one_common_limit() -> None:
    with running_redis() as url:
        async with AsyncExitStack() as stack, Redis.from_url(url) as redis_client:
            processes = [limiter_with(600) for _ in range(3)]
            for each in processes:
                redis = await stack.enter_async_context(open_redis(url))
                await stack.enter_async_context(each.shared(redis))
            admitted = 0
            for _ in range(25):  # in each round one second's worth of requests per process
                admitted += sum([await count_admitted(each, ClientContext(), 40) for each in processes])
                await asyncio.sleep(0.1)
            assert 600 <= admitted < 900, "requests before the first synchronization may exceed the limit"
            assert sum([await count_admitted(each, ClientContext(), 10) for each in processes]) == 0
            assert "192.0" not in str(await redis_client.keys("*"))


async def test_each_process_enforces_the_limit_alone_while_redis_is_unavailable() -> None:
    limiter = limiter_with(100)
    url = f"redis://127.0.0.1:{free_port('127.0.0.1')}/0"
    async with open_redis(url) as redis, limiter.shared(redis):
        first = await count_admitted(limiter, ClientContext(), 90)
        await asyncio.sleep(0.7)
        assert first == 90
        assert 10 <= await count_admitted(limiter, ClientContext(), 100) <= 13


async def test_checking_the_limit_takes_less_than_a_tenth_of_a_millisecond() -> None:
    limiter = limiter_with(10_000_000)
    before = time.process_time()
    await count_admitted(limiter, ClientContext(), 10_000)
    assert (time.process_time() - before) / 10_000 < 0.000_1


@pytest.fixture
def services() -> FakeServices:
    """Fake services; Acme has the lowest tier."""
    return FakeServices()


async def post_repeatedly(gateway: Gateway, times: int, **options: Any) -> list[httpx.Response]:
    """Post the viewer query this many times and return the responses."""
    async with httpx.AsyncClient(base_url=gateway.http, timeout=20) as client:
        headers = options.get("headers", {"authorization": f"Bearer {TOKEN}"})
        return [await client.post("/graphql", json={"query": VIEWER_QUERY}, headers=headers) for _ in range(times)]


@pytest.fixture
async def gateway_with_rate_limits(temporal_address: str, services: FakeServices) -> AsyncIterator[Gateway]:
    """A gateway that allows 10 requests per minute and user in the free tier, and 20 in the professional tier."""
    results = settings(
        temporal_address, rate_limits=True, rate_limit_per_user={FREE: 10, PRO: 20}, rate_limit_per_address=200
    )
    async with running_gateway(results, services) as gateway:
        yield gateway


async def test_refuses_one_request_too_many_of_a_user_with_a_retry_time(gateway_with_rate_limits: Gateway) -> None:
    responses = await post_repeatedly(gateway_with_rate_limits, 11)

    assert [response.json() for response in responses[:10]] == [SIGNED_IN_AS_ADA] * 10
    (error,) = responses[10].json()["errors"]
    assert responses[10].status_code == 429
    assert error_extensions(error) == {"code": "RATE_LIMITED", "retryAfter": int(responses[10].headers["retry-after"])}
    assert 1 <= error["extensions"]["retryAfter"] <= 6
    (anonymous,) = await post_repeatedly(gateway_with_rate_limits, 1, headers={})
    assert anonymous.status_code == 200, "other requests from the same address are admitted"


async def test_higher_tier_allows_more_and_is_read_only_when_needed(
    gateway_with_rate_limits: Gateway, services: FakeServices
) -> None:
    professional = tenant(ACME, "Acme").model_copy(update={"subscription_tier": PRO})
    services.handlers["tenants/get_tenants"] = lambda caller, body: [professional]

    first = await post_repeatedly(gateway_with_rate_limits, 10)
    assert services.requests_to("tenants/get_tenants") == []
    later = await post_repeatedly(gateway_with_rate_limits, 11)

    assert [response.status_code for response in (*first, *later)] == [200] * 20 + [429]
    assert len(services.requests_to("tenants/get_tenants")) == 1


async def test_does_not_apply_the_lowest_tier_while_the_tier_cannot_be_read(
    gateway_with_rate_limits: Gateway, services: FakeServices
) -> None:
    def down(caller: object, body: object) -> None:
        raise ServiceUnavailable(service="tenants")

    services.handlers["tenants/get_tenants"] = down

    assert {response.status_code for response in await post_repeatedly(gateway_with_rate_limits, 15)} == {200}


async def test_operations_on_a_websocket_count_and_leave_the_socket_open(gateway_with_rate_limits: Gateway) -> None:
    async with gateway_with_rate_limits.open(authorization()) as socket:
        results = [(await socket.execute(VIEWER_QUERY))[0] for _ in range(12)]
        (refused,) = {message["type"] for message in results[10:]}
        assert refused == "error"
        assert results[10]["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
        assert results[10]["payload"][0]["extensions"]["retryAfter"] >= 1
        await socket.send({"type": "ping"})
        assert (await socket.receive())["type"] == "pong"


async def test_users_of_a_tenant_share_its_limit(temporal_address: str, services: FakeServices) -> None:
    sessions = {"ada": session(), "grace": session("ses_" + "b" * 32, user_id="usr_" + "b" * 32)}

    def find(caller: object, body: dict[str, Any]) -> Any:
        return next(each for name, each in sessions.items() if token_hash(name) == body["token_hash"])

    services.handlers["auth/get_current_session"] = find
    results = settings(temporal_address, rate_limits=True, rate_limit_per_tenant={FREE: 10}, rate_limit_per_user={})
    async with running_gateway(results, services) as gateway:
        from_ada = await post_repeatedly(gateway, 6, headers={"authorization": "Bearer ada"})
        from_grace = await post_repeatedly(gateway, 6, headers={"authorization": "Bearer grace"})

    assert [response.status_code for response in (*from_ada, *from_grace)] == [200] * 10 + [429] * 2


async def test_address_is_counted_with_and_without_a_session(temporal_address: str, services: FakeServices) -> None:
    results = settings(temporal_address, rate_limits=True, rate_limit_per_address=5)
    async with running_gateway(results, services) as gateway:
        responses = await post_repeatedly(gateway, 4, headers={}) + await post_repeatedly(gateway, 2)

    assert [response.status_code for response in responses] == [200] * 5 + [429]


async def test_rate_limits_are_off_in_development_by_default(temporal_address: str) -> None:
    assert settings(temporal_address).rate_limit_values() == RateLimits()
    assert settings(temporal_address, rate_limits=True).rate_limit_values().user[FREE] == 600


async def log_in(client: httpx.AsyncClient, password: str) -> Any:
    """Post a login with this password and return the JSON response."""
    response = await client.post(
        "/graphql", json={"query": LOGIN, "variables": {"input": {"email": "ada@example.com", "password": password}}}
    )
    return response.json()


async def test_throttles_password_guesses_before_the_service_is_called(
    temporal_address: str, services: FakeServices
) -> None:
    async with (
        running_gateway(settings(temporal_address), services) as gateway,
        httpx.AsyncClient(base_url=gateway.http, timeout=20) as client,
    ):
        results = [error_extensions((await log_in(client, f"wrong-{n}"))["errors"][0]) for n in range(12)]

    assert results[:10] == [{"code": "INVALID_CREDENTIALS"}] * 10
    assert [each["code"] for each in results[10:]] == ["RATE_LIMITED"] * 2
    assert 80 < results[10]["retryAfter"] <= 90
    assert len(services.requests_to("auth/verify_credentials")) == 10
