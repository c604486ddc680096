"""Users are asked for once in a while, and at once after a change."""

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

SHE = Caller(user_id=ADA, tenant_id=ACME, permissions=("tenant:read",))


class Seconds:
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
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
async def copies(redis_url: str) -> AsyncIterator[TaggedCache]:
    async with open_cache(redis_url) as cache, TaggedCache(cache) as copies:
        yield copies


@pytest.fixture
def known(client: UsersClient, copies: TaggedCache, seconds: Seconds) -> CachedUsersClient:
    return CachedUsersClient(client, copies, clock=seconds)


def asked(services: FakeServices) -> list[list[str]]:
    return [body["ids"] for body in services.requests_to("users/get_users")]


async def test_who_is_known_is_not_asked_for_again_and_the_others_are(
    known: CachedUsersClient, services: FakeServices
) -> None:
    assert [user.id for user in await known.get_users(SHE, [ADA])] == [ADA]
    assert [user.id for user in await known.get_users(SHE, [GRACE, ADA])] == [GRACE, ADA]
    assert [user.id for user in await known.get_users(SHE, [ADA, GRACE])] == [ADA, GRACE]
    assert asked(services) == [[ADA], [GRACE]]


async def test_who_is_not_to_be_seen_is_asked_for_each_time(known: CachedUsersClient, services: FakeServices) -> None:
    for _ in range(2):
        assert await known.get_users(SHE, ["usr_" + "f" * 32]) == ()
    assert len(asked(services)) == 2


@pytest.mark.parametrize(
    "other",
    [{"user_id": GRACE}, {"tenant_id": GLOBEX}, {"permissions": ("users:read",)}],
    ids=lambda each: next(iter(each)),
)
async def test_what_one_caller_sees_no_other_is_shown(
    known: CachedUsersClient, services: FakeServices, other: dict[str, object]
) -> None:
    await known.get_users(SHE, [ADA])
    services.handlers["users/get_users"] = lambda caller, body: []
    assert await known.get_users(SHE.model_copy(update=other), [ADA]) == ()


async def test_a_copy_does_not_outlive_its_time(
    known: CachedUsersClient, services: FakeServices, seconds: Seconds
) -> None:
    await known.get_users(SHE, [ADA])
    seconds.now += 29.9
    await known.get_users(SHE, [ADA])
    assert len(asked(services)) == 1
    seconds.now += 0.2
    await known.get_users(SHE, [ADA])
    assert len(asked(services)) == 2


@pytest.mark.parametrize("tag", [user_tag(ADA), tenant_tag(ACME)])
async def test_a_change_that_another_process_sees_outdates_it_at_once(
    known: CachedUsersClient, services: FakeServices, redis_url: str, tag: str
) -> None:
    await known.get_users(SHE, [ADA])
    services.handlers["users/get_users"] = lambda caller, body: [make_user(ADA).model_copy(update={"name": "Countess"})]
    async with open_cache(redis_url) as cache, TaggedCache(cache) as elsewhere:
        await elsewhere.invalidate(tag)
    assert [user.name for user in await known.get_users(SHE, [ADA])] == ["Countess"]


async def test_without_word_of_changes_there_are_no_copies(client: UsersClient, services: FakeServices) -> None:
    async with open_cache("redis://127.0.0.1:1/0") as away, TaggedCache(away) as copies:
        known = CachedUsersClient(client, copies)
        for _ in range(2):
            assert [user.id for user in await known.get_users(SHE, [ADA])] == [ADA]
    assert len(asked(services)) == 2
