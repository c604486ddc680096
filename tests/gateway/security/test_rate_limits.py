"""How many requests users, tenants and networks may make, told by one process and by several that share a Redis."""

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
from tests.gateway.fakes import ACME, ADA, TOKEN, Services, facts, session, settings, tenant
from tests.gateway.live_gateway import Gateway, introduction, running_gateway
from tests.redis_access import open_redis
from tests.servers import running_redis
from worker.dev.ports import free_port

WHO = "{ viewer { user { id } } }"
SHE = {"data": {"viewer": {"user": {"id": ADA}}}}
LOGIN = "mutation ($input: LoginInput!) { login(input: $input) { operation { id } } }"
FREE, PRO = SubscriptionTier.FREE, SubscriptionTier.PROFESSIONAL


class ClientContext(Context):
    """The context of a request from a client network, without a process around it."""

    def __init__(self, network: str = "192.0.2.1") -> None:
        self.client = ClientInfo(network)
        self.token = None


async def let_through(limits: RateLimiter, who: ClientContext, asked: int) -> int:
    """How many of those that are asked at once."""
    done, waits = 0, list[float]()
    for _ in range(asked):
        try:
            await limits.check(who)
        except RateLimited as refused:
            waits.append(refused.retry_after or 0)
        else:
            done += 1
    assert all(wait >= 1 and wait == int(wait) for wait in waits)
    return done


def limits_of(address: int, clock: Any = time.monotonic) -> RateLimiter:
    return RateLimiter(RateLimits(address=address), b"k" * 32, clock)


async def test_a_minute_s_requests_come_at_once_and_then_one_after_the_other() -> None:
    now = 0.0
    limits = limits_of(60, lambda: now)

    assert await let_through(limits, ClientContext(), 100) == 60
    now += 10
    assert await let_through(limits, ClientContext(), 100) == 10
    assert await let_through(limits, ClientContext("192.0.2.2"), 100) == 60


async def test_no_bound_is_no_bound() -> None:
    assert await let_through(limits_of(0), ClientContext(), 1000) == 1000


async def test_processes_at_one_redis_let_no_more_through_together_than_one() -> None:
    with running_redis() as url:
        async with AsyncExitStack() as stack, Redis.from_url(url) as looking:
            processes = [limits_of(600) for _ in range(3)]
            for each in processes:
                redis = await stack.enter_async_context(open_redis(url))
                await stack.enter_async_context(each.shared(redis))
            done = 0
            for _ in range(25):  # a second's worth in each, whatever one alone would let through
                done += sum([await let_through(each, ClientContext(), 40) for each in processes])
                await asyncio.sleep(0.1)
            assert 600 <= done < 900, "what comes while they learn of each other may be too much"
            assert sum([await let_through(each, ClientContext(), 10) for each in processes]) == 0
            assert "192.0" not in str(await looking.keys("*"))


async def test_each_process_goes_on_by_its_own_count_while_redis_is_away() -> None:
    limits = limits_of(100)
    url = f"redis://127.0.0.1:{free_port('127.0.0.1')}/0"
    async with open_redis(url) as redis, limits.shared(redis):
        first = await let_through(limits, ClientContext(), 90)
        await asyncio.sleep(0.7)
        assert first == 90
        assert 10 <= await let_through(limits, ClientContext(), 100) <= 13


async def test_counting_costs_a_request_next_to_nothing() -> None:
    limits = limits_of(10_000_000)
    before = time.process_time()
    await let_through(limits, ClientContext(), 10_000)
    assert (time.process_time() - before) / 10_000 < 0.000_1


@pytest.fixture
def services() -> Services:
    """Acme's tier is the lowest."""
    return Services()


async def asked_often(gateway: Gateway, times: int, **options: Any) -> list[httpx.Response]:
    async with httpx.AsyncClient(base_url=gateway.http, timeout=20) as client:
        headers = options.get("headers", {"authorization": f"Bearer {TOKEN}"})
        return [await client.post("/graphql", json={"query": WHO}, headers=headers) for _ in range(times)]


@pytest.fixture
async def limited(temporal_address: str, services: Services) -> AsyncIterator[Gateway]:
    told = settings(
        temporal_address, rate_limits=True, rate_limit_per_user={FREE: 10, PRO: 20}, rate_limit_per_address=200
    )
    async with running_gateway(told, services) as gateway:
        yield gateway


async def test_a_user_s_request_too_many_is_refused_whole_and_told_when_to_come_again(limited: Gateway) -> None:
    answers = await asked_often(limited, 11)

    assert [answer.json() for answer in answers[:10]] == [SHE] * 10
    (error,) = answers[10].json()["errors"]
    assert answers[10].status_code == 429
    assert facts(error) == {"code": "RATE_LIMITED", "retryAfter": int(answers[10].headers["retry-after"])}
    assert 1 <= error["extensions"]["retryAfter"] <= 6
    (nobody,) = await asked_often(limited, 1, headers={})
    assert nobody.status_code == 200, "who else asks from there is not refused with her"


async def test_a_better_tier_allows_more_and_is_asked_for_only_once_it_matters(
    limited: Gateway, services: Services
) -> None:
    better = tenant(ACME, "Acme").model_copy(update={"subscription_tier": PRO})
    services.handlers["tenants/get_tenants"] = lambda caller, body: [better]

    first = await asked_often(limited, 10)
    assert services.asked("tenants/get_tenants") == []
    then = await asked_often(limited, 11)

    assert [answer.status_code for answer in (*first, *then)] == [200] * 20 + [429]
    assert len(services.asked("tenants/get_tenants")) == 1


async def test_nobody_is_held_to_less_while_their_tier_cannot_be_told(limited: Gateway, services: Services) -> None:
    def down(caller: object, body: object) -> None:
        raise ServiceUnavailable(service="tenants")

    services.handlers["tenants/get_tenants"] = down

    assert {answer.status_code for answer in await asked_often(limited, 15)} == {200}


async def test_what_is_asked_on_a_websocket_counts_and_leaves_the_socket_open(limited: Gateway) -> None:
    async with limited.open(introduction()) as socket:
        told = [(await socket.ask(WHO))[0] for _ in range(12)]
        (refused,) = {message["type"] for message in told[10:]}
        assert refused == "error"
        assert told[10]["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
        assert told[10]["payload"][0]["extensions"]["retryAfter"] >= 1
        await socket.say({"type": "ping"})
        assert (await socket.next())["type"] == "pong"


async def test_a_tenant_s_users_share_what_it_may(temporal_address: str, services: Services) -> None:
    both = {"ada": session(), "grace": session("ses_" + "b" * 32, user_id="usr_" + "b" * 32)}

    def find(caller: object, body: dict[str, Any]) -> Any:
        return next(each for name, each in both.items() if token_hash(name) == body["token_hash"])

    services.handlers["auth/get_current_session"] = find
    told = settings(temporal_address, rate_limits=True, rate_limit_per_tenant={FREE: 10}, rate_limit_per_user={})
    async with running_gateway(told, services) as gateway:
        hers = await asked_often(gateway, 6, headers={"authorization": "Bearer ada"})
        others = await asked_often(gateway, 6, headers={"authorization": "Bearer grace"})

    assert [answer.status_code for answer in (*hers, *others)] == [200] * 10 + [429] * 2


async def test_an_address_is_counted_whoever_asks(temporal_address: str, services: Services) -> None:
    told = settings(temporal_address, rate_limits=True, rate_limit_per_address=5)
    async with running_gateway(told, services) as gateway:
        answers = await asked_often(gateway, 4, headers={}) + await asked_often(gateway, 2)

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]


async def test_in_development_nothing_is_counted_unless_asked_for(temporal_address: str) -> None:
    assert settings(temporal_address).rate_limit_values() == RateLimits()
    assert settings(temporal_address, rate_limits=True).rate_limit_values().user[FREE] == 600


async def log_in(client: httpx.AsyncClient, password: str) -> Any:
    answer = await client.post(
        "/graphql", json={"query": LOGIN, "variables": {"input": {"email": "ada@example.com", "password": password}}}
    )
    return answer.json()


async def test_who_guesses_is_put_off_before_anything_is_looked_at(temporal_address: str, services: Services) -> None:
    async with (
        running_gateway(settings(temporal_address), services) as gateway,
        httpx.AsyncClient(base_url=gateway.http, timeout=20) as client,
    ):
        told = [facts((await log_in(client, f"wrong-{n}"))["errors"][0]) for n in range(12)]

    assert told[:10] == [{"code": "INVALID_CREDENTIALS"}] * 10
    assert [each["code"] for each in told[10:]] == ["RATE_LIMITED"] * 2
    assert 80 < told[10]["retryAfter"] <= 90
    assert len(services.asked("auth/verify_credentials")) == 10
