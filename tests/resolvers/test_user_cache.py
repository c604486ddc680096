"""Cache of users: which requests it saves, and when its values expire."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from contracts.callers import Caller
from infrastructure.caching.tagged_cache import TaggedCache
from infrastructure.circuit_breaker import CircuitBreaker
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner
from resolvers.clients.base import ServiceClient
from resolvers.clients.users import UsersClient
from resolvers.following.observer import tenant_tag, user_tag
from resolvers.user_cache import CachedUsersClient
from tests.gateway.fakes import ACME, ADA, GLOBEX, GRACE, KEY, FakeServices, make_user
from tests.redis_access import open_cache

CALLER = Caller(user_id=ADA, tenant_id=ACME, permissions=("tenant:read",))


class Clock:
    """Clock of the cache, which a test advances."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
def client(services: FakeServices) -> UsersClient:
    http = httpx.AsyncClient(transport=services.transport)
    return UsersClient(
        ServiceClient(
            "users",
            "http://users.test",
            http,
            ServiceTokenSigner("users", SecretKeys(KEY.encode())),
            CircuitBreaker("users"),
        )
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def tagged_cache(redis_url: str) -> AsyncIterator[TaggedCache]:
    async with open_cache(redis_url) as cache, TaggedCache(cache) as tagged_cache:
        yield tagged_cache


@pytest.fixture
def cached_client(client: UsersClient, tagged_cache: TaggedCache, clock: Clock) -> CachedUsersClient:
    return CachedUsersClient(client, tagged_cache, clock=clock)


def requested_ids(services: FakeServices) -> list[list[str]]:
    """Return the ids of each request to the users service."""
    return [body["ids"] for body in services.requests_to("users/get_users")]


async def test_requests_only_users_that_are_not_cached(
    cached_client: CachedUsersClient, services: FakeServices
) -> None:
    assert [user.id for user in await cached_client.get_users(CALLER, [ADA])] == [ADA]
    assert [user.id for user in await cached_client.get_users(CALLER, [GRACE, ADA])] == [GRACE, ADA]
    assert [user.id for user in await cached_client.get_users(CALLER, [ADA, GRACE])] == [ADA, GRACE]
    assert requested_ids(services) == [[ADA], [GRACE]]


async def test_does_not_cache_that_a_user_was_not_found(
    cached_client: CachedUsersClient, services: FakeServices
) -> None:
    for _ in range(2):
        assert await cached_client.get_users(CALLER, ["usr_" + "f" * 32]) == ()
    assert len(requested_ids(services)) == 2


@pytest.mark.parametrize(
    "other",
    [{"user_id": GRACE}, {"tenant_id": GLOBEX}, {"permissions": ("users:read",)}],
    ids=lambda each: next(iter(each)),
)
async def test_cached_user_is_visible_to_the_same_caller_only(
    cached_client: CachedUsersClient, services: FakeServices, other: dict[str, object]
) -> None:
    await cached_client.get_users(CALLER, [ADA])
    services.handlers["users/get_users"] = lambda caller, body: []
    assert await cached_client.get_users(CALLER.model_copy(update=other), [ADA]) == ()


async def test_cached_user_expires_after_thirty_seconds(
    cached_client: CachedUsersClient, services: FakeServices, clock: Clock
) -> None:
    await cached_client.get_users(CALLER, [ADA])
    clock.now += 29.9
    await cached_client.get_users(CALLER, [ADA])
    assert len(requested_ids(services)) == 1
    clock.now += 0.2
    await cached_client.get_users(CALLER, [ADA])
    assert len(requested_ids(services)) == 2


@pytest.mark.parametrize("tag", [user_tag(ADA), tenant_tag(ACME)])
async def test_invalidation_by_another_process_takes_effect_immediately(
    cached_client: CachedUsersClient, services: FakeServices, redis_url: str, tag: str
) -> None:
    await cached_client.get_users(CALLER, [ADA])
    services.handlers["users/get_users"] = lambda caller, body: [make_user(ADA).model_copy(update={"name": "Countess"})]
    async with open_cache(redis_url) as cache, TaggedCache(cache) as other_process:
        await other_process.invalidate(tag)
    assert [user.name for user in await cached_client.get_users(CALLER, [ADA])] == ["Countess"]


async def test_caches_nothing_without_change_notifications(client: UsersClient, services: FakeServices) -> None:
    async with open_cache("redis://127.0.0.1:1/0") as unavailable, TaggedCache(unavailable) as tagged_cache:
        cached_client = CachedUsersClient(client, tagged_cache)
        for _ in range(2):
            assert [user.id for user in await cached_client.get_users(CALLER, [ADA])] == [ADA]
    assert len(requested_ids(services)) == 2
