"""Who asks: header, cookie, hot copy, revocation."""

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
from tests.gateway.conftest import Ask
from tests.gateway.fakes import ADA, TOKEN, Services, facts, session
from tests.redis_access import open_cache
from worker.dev.ports import free_port

WHO = "{ viewer { user { id } } }"
NOBODY = {"data": {"viewer": None}}
SHE = {"data": {"viewer": {"user": {"id": ADA}}}}
HOT = session_cache_key(token_hash(TOKEN))


async def test_nobody_asks_without_a_session(ask: Ask) -> None:
    assert await ask(WHO, token=None) == NOBODY


async def test_a_token_that_opens_nothing_is_nobody(ask: Ask) -> None:
    assert await ask(WHO, token="another") == NOBODY
    assert await ask(WHO, token="x" * 10_000) == NOBODY


async def test_a_bearer_token_says_who_asks(ask: Ask) -> None:
    assert await ask(WHO) == SHE


async def test_a_cookie_says_who_asks(client: httpx.AsyncClient) -> None:
    client.cookies.set(COOKIE, TOKEN)
    assert (await client.post("/graphql", json={"query": WHO})).json() == SHE


async def test_the_header_comes_before_the_cookie(client: httpx.AsyncClient) -> None:
    client.cookies.set(COOKIE, TOKEN)
    answer = await client.post("/graphql", json={"query": WHO}, headers={"authorization": "Bearer another"})
    assert answer.json() == NOBODY


async def test_a_form_of_another_site_cannot_use_the_cookie(client: httpx.AsyncClient) -> None:
    client.cookies.set(COOKIE, TOKEN)
    body = '{"query": "mutation { logout { ok } }"}'
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = await client.post("/graphql", content=body, headers={"content-type": content_type})
        assert answer.status_code == 403
        assert answer.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_the_auth_service_is_asked_once_a_request_where_no_cache_is_shared(ask: Ask, services: Services) -> None:
    await ask("{ a: viewer { user { id } } b: viewer { session { id } } }")
    assert len(services.asked("auth/get_current_session")) == 1
    await ask(WHO)
    assert len(services.asked("auth/get_current_session")) == 2


class AskedAuth(AuthClient):
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def get_current_session(self, caller: object, token_hash: str) -> Any:
        self.asked += 1
        return session()


async def test_the_auth_service_is_asked_once_while_the_copy_is_hot_and_within_a_second_again(cache: Cache) -> None:
    auth = AskedAuth()
    sessions = SessionCache(cache, auth)
    for _ in range(3):
        await sessions.find(TOKEN, request_id="")
    assert auth.asked == 1
    await asyncio.sleep(0.9)
    await sessions.find(TOKEN, request_id="")
    assert auth.asked == 2


async def test_a_posted_revocation_ends_the_session_at_once(ask: Ask, cache: Cache) -> None:
    assert await ask(WHO) == SHE
    await cache.set_many({HOT: REVOKED}, ttl_seconds=REVOCATION_TTL_SECONDS)
    assert await ask(WHO) == NOBODY


async def test_a_lookup_under_way_cannot_undo_a_revocation_posted_meanwhile(cache: Cache) -> None:
    class SlowAuth(AuthClient):
        async def get_current_session(self, caller: object, token_hash: str) -> Any:
            await cache.set_many({HOT: REVOKED}, ttl_seconds=REVOCATION_TTL_SECONDS)
            return session()

    sessions = SessionCache(cache, SlowAuth(service=None))  # type: ignore[arg-type]
    await sessions.find(TOKEN, request_id="")
    assert await sessions.find(TOKEN, request_id="") is None


async def test_sessions_are_found_while_the_cache_is_down() -> None:
    class Auth(AuthClient):
        async def get_current_session(self, caller: object, token_hash: str) -> Any:
            return session()

    async with open_cache(f"redis://127.0.0.1:{free_port('127.0.0.1')}/0") as down:
        found = await SessionCache(down, Auth(service=None)).find(TOKEN, request_id="")  # type: ignore[arg-type]
    assert found is not None
    assert found.user_id == ADA


async def test_an_expired_copy_opens_nothing(cache: Cache) -> None:
    hot = CachedSession(session=session(hours=-1), read_at=utc_now())
    await cache.set_many({HOT: hot.model_dump_json()}, ttl_seconds=0.8)
    assert await SessionCache(cache, AskedAuth()).find(TOKEN, request_id="") is None


async def test_a_copy_counts_from_when_it_was_read_however_long_the_cache_keeps_it(
    cache: Cache,
) -> None:
    auth = AskedAuth()
    sessions = SessionCache(cache, auth)
    old = CachedSession(session=session(), read_at=utc_now() - timedelta(seconds=0.8))
    await cache.set_many({HOT: old.model_dump_json()}, ttl_seconds=60)
    for _ in range(2):
        assert await sessions.find(TOKEN, request_id="") is not None
    assert auth.asked == 1, "the new copy is in its place"


async def test_an_auth_service_that_is_down_is_no_proof_of_having_no_session(ask: Ask, services: Services) -> None:
    def down(caller: object, body: object) -> None:
        raise ServiceUnavailable(service="auth")

    services.handlers["auth/get_current_session"] = down
    (error,) = (await ask(WHO))["errors"]
    assert facts(error) == {"code": "UPSTREAM_UNAVAILABLE", "service": "auth"}


async def test_logging_out_ends_the_session_and_clears_the_cookie(
    client: httpx.AsyncClient, services: Services
) -> None:
    client.cookies.set(COOKIE, TOKEN)
    answer = await client.post("/graphql", json={"query": "mutation { logout { ok } }"})
    assert answer.json() == {"data": {"logout": {"ok": True}}}
    assert answer.headers["set-cookie"] == f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
    assert services.asked("auth/end_session") == [{"session_id": session().id}]


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
async def test_nothing_is_done_for_nobody(ask: Ask, mutation: str) -> None:
    (error,) = (await ask(f"mutation {{ {mutation} }}", token=None))["errors"]
    assert facts(error) == {"code": "UNAUTHENTICATED"}
