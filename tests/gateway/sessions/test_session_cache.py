"""How a request's session is found: header or cookie, cache entry, auth service and revocation."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from contracts.auth import REVOCATION_TTL_SECONDS, REVOKED, CachedSession, session_cache_key
from contracts.base import utc_now
from contracts.errors import ServiceUnavailable
from gateway.sessions.cookies import COOKIE
from gateway.sessions.session_cache import SessionCache
from infrastructure.caching.cache import Cache
from resolvers.clients.auth import AuthClient
from resolvers.tokens import token_hash
from tests.gateway.conftest import Execute
from tests.gateway.fakes import ADA, TOKEN, FakeServices, error_extensions, session
from tests.redis_access import open_cache
from worker.dev.ports import free_port

VIEWER_QUERY = "{ viewer { user { id } } }"
ANONYMOUS = {"data": {"viewer": None}}
SIGNED_IN_AS_ADA = {"data": {"viewer": {"user": {"id": ADA}}}}
CACHE_KEY = session_cache_key(token_hash(TOKEN))


async def test_viewer_is_null_without_a_session(execute: Execute) -> None:
    assert await execute(VIEWER_QUERY, token=None) == ANONYMOUS


async def test_viewer_is_null_with_an_unknown_token(execute: Execute) -> None:
    assert await execute(VIEWER_QUERY, token="another") == ANONYMOUS
    assert await execute(VIEWER_QUERY, token="x" * 10_000) == ANONYMOUS


async def test_bearer_token_identifies_the_viewer(execute: Execute) -> None:
    assert await execute(VIEWER_QUERY) == SIGNED_IN_AS_ADA


async def test_cookie_identifies_the_viewer(client: httpx.AsyncClient) -> None:
    client.cookies.set(COOKIE, TOKEN)
    assert (await client.post("/graphql", json={"query": VIEWER_QUERY})).json() == SIGNED_IN_AS_ADA


async def test_header_takes_precedence_over_the_cookie(client: httpx.AsyncClient) -> None:
    client.cookies.set(COOKIE, TOKEN)
    response = await client.post("/graphql", json={"query": VIEWER_QUERY}, headers={"authorization": "Bearer another"})
    assert response.json() == ANONYMOUS


async def test_forms_cannot_use_the_session_cookie(client: httpx.AsyncClient) -> None:
    client.cookies.set(COOKIE, TOKEN)
    body = '{"query": "mutation { logout { ok } }"}'
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        response = await client.post("/graphql", content=body, headers={"content-type": content_type})
        assert response.status_code == 403
        assert response.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_calls_the_auth_service_once_per_request_without_a_shared_cache(
    execute: Execute, services: FakeServices
) -> None:
    await execute("{ a: viewer { user { id } } b: viewer { session { id } } }")
    assert len(services.requests_to("auth/get_current_session")) == 1
    await execute(VIEWER_QUERY)
    assert len(services.requests_to("auth/get_current_session")) == 2


class CountingAuth(AuthClient):
    """An auth client that counts its lookups."""

    def __init__(self) -> None:
        self.lookups = 0

    async def get_current_session(self, caller: object, token_hash: str) -> Any:
        self.lookups += 1
        return session()


async def test_calls_the_auth_service_again_only_after_the_cache_entry_is_outdated(cache: Cache) -> None:
    auth = CountingAuth()
    sessions = SessionCache(cache, auth)
    for _ in range(3):
        await sessions.find(TOKEN, request_id="")
    assert auth.lookups == 1
    await asyncio.sleep(0.9)
    await sessions.find(TOKEN, request_id="")
    assert auth.lookups == 2


async def test_published_revocation_ends_the_session_immediately(execute: Execute, cache: Cache) -> None:
    assert await execute(VIEWER_QUERY) == SIGNED_IN_AS_ADA
    await cache.set_many({CACHE_KEY: REVOKED}, ttl_seconds=REVOCATION_TTL_SECONDS)
    assert await execute(VIEWER_QUERY) == ANONYMOUS


async def test_a_concurrent_lookup_does_not_overwrite_a_revocation(cache: Cache) -> None:
    class SlowAuth(AuthClient):
        async def get_current_session(self, caller: object, token_hash: str) -> Any:
            await cache.set_many({CACHE_KEY: REVOKED}, ttl_seconds=REVOCATION_TTL_SECONDS)
            return session()

    sessions = SessionCache(cache, SlowAuth(service=None))  # type: ignore[arg-type]
    await sessions.find(TOKEN, request_id="")
    assert await sessions.find(TOKEN, request_id="") is None


async def test_finds_sessions_while_the_cache_is_down() -> None:
    class Auth(AuthClient):
        async def get_current_session(self, caller: object, token_hash: str) -> Any:
            return session()

    async with open_cache(f"redis://127.0.0.1:{free_port('127.0.0.1')}/0") as down:
        found = await SessionCache(down, Auth(service=None)).find(TOKEN, request_id="")  # type: ignore[arg-type]
    assert found is not None
    assert found.user_id == ADA


async def test_cached_session_that_has_expired_grants_no_access(cache: Cache) -> None:
    cached_entry = CachedSession(session=session(hours=-1), read_at=utc_now())
    await cache.set_many({CACHE_KEY: cached_entry.model_dump_json()}, ttl_seconds=0.8)
    assert await SessionCache(cache, CountingAuth()).find(TOKEN, request_id="") is None


async def test_age_of_a_cache_entry_is_counted_from_its_lookup_not_from_its_storage(
    cache: Cache,
) -> None:
    auth = CountingAuth()
    sessions = SessionCache(cache, auth)
    old = CachedSession(session=session(), read_at=utc_now() - timedelta(seconds=0.8))
    await cache.set_many({CACHE_KEY: old.model_dump_json()}, ttl_seconds=60)
    for _ in range(2):
        assert await sessions.find(TOKEN, request_id="") is not None
    assert auth.lookups == 1, "the new cache entry has replaced it"


async def test_unavailable_auth_service_is_an_error_and_not_a_missing_session(
    execute: Execute, services: FakeServices
) -> None:
    def down(caller: object, body: object) -> None:
        raise ServiceUnavailable(service="auth")

    services.handlers["auth/get_current_session"] = down
    (error,) = (await execute(VIEWER_QUERY))["errors"]
    assert error_extensions(error) == {"code": "UPSTREAM_UNAVAILABLE", "service": "auth"}


async def test_logout_ends_the_session_and_clears_the_cookie(client: httpx.AsyncClient, services: FakeServices) -> None:
    client.cookies.set(COOKIE, TOKEN)
    response = await client.post("/graphql", json={"query": "mutation { logout { ok } }"})
    assert response.json() == {"data": {"logout": {"ok": True}}}
    assert response.headers["set-cookie"] == f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
    assert services.requests_to("auth/end_session") == [{"session_id": session().id}]


@pytest.mark.parametrize(
    "mutation",
    [
        "logout { ok }",
        'revokeSession(input: { sessionId: "ses_x" }) { ok }',
        'switchTenant(input: { tenantId: "ten_x" }) { operation { id } }',
        "updatePreferences(input: {}) { preferences { theme } }",
        'cancelOperation(input: { id: "x" }) { operation { id } }',
        'retryOperation(input: { id: "x" }) { operation { id } }',
    ],
)
async def test_mutations_without_a_session_are_unauthenticated(execute: Execute, mutation: str) -> None:
    (error,) = (await execute(f"mutation {{ {mutation} }}", token=None))["errors"]
    assert error_extensions(error) == {"code": "UNAUTHENTICATED"}
