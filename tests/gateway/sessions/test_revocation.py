"""A revoked session grants no access in any process, whatever happens to Redis, and other sessions stay valid."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from activities.auth.revocations import CacheRevocationPublisher
from contracts.auth import REVOKED, CachedSession, session_cache_key
from contracts.base import utc_now
from contracts.errors import SessionEnded
from resolvers.tokens import token_hash
from tests.gateway.fakes import ADA, FakeServices, session, settings
from tests.gateway.live_gateway import Gateway, authorization, running_gateway
from tests.redis_access import open_cache, open_change_notifier
from tests.redis_server import RedisServer

VIEWER_QUERY = "{ viewer { user { id } } }"
ANONYMOUS: dict[str, Any] = {"viewer": None}
SIGNED_IN_AS_ADA = {"viewer": {"user": {"id": ADA}}}
REVOKED_TOKEN, OTHER_TOKEN = "the-revoked-token", "the-other-token"


class RevocationEnvironment:
    """Two gateways and a publisher of revocations that share one Redis server."""

    def __init__(self, redis: RedisServer, gateways: list[Gateway], revocations: CacheRevocationPublisher) -> None:
        self.redis = redis
        self.gateways = gateways
        self.revocations = revocations
        self.ended: set[str] = set()

    def find(self, _caller: object, body: dict[str, Any]) -> Any:
        """Look up a session as the auth service does."""
        session_ids = {token_hash(REVOKED_TOKEN): "ses_" + "a" * 32, token_hash(OTHER_TOKEN): "ses_" + "b" * 32}
        if body["token_hash"] in self.ended or body["token_hash"] not in session_ids:
            raise SessionEnded()
        return session(session_ids[body["token_hash"]])

    async def revoke(self) -> None:
        """Revoke the session as the auth service does: first in its database, then in the cache."""
        self.ended.add(token_hash(REVOKED_TOKEN))
        await self.revocations.publish(token_hash(REVOKED_TOKEN))

    async def viewers(self, token: str) -> list[Any]:
        """Return the viewer that each gateway reports for this token."""
        headers = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(timeout=20, headers=headers) as client:
            responses = [
                await client.post(f"{each.http}/graphql", json={"query": VIEWER_QUERY}) for each in self.gateways
            ]
        return [response.json()["data"] for response in responses]

    async def cached_session(self) -> str:
        """Return the cache entry of the revoked session."""
        return str(await self.redis.execute("GET", session_cache_key(token_hash(REVOKED_TOKEN))))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server of this test, which it can stop and restart."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.close()


@pytest.fixture
async def environment(redis: RedisServer, temporal_address: str) -> AsyncIterator[RevocationEnvironment]:
    """Two gateways that have cached both sessions."""
    async with AsyncExitStack() as stack:
        services = FakeServices()
        configured = settings(temporal_address, redis_url=redis.url)
        gateways = [await stack.enter_async_context(running_gateway(configured, services)) for _ in range(2)]
        cache = await stack.enter_async_context(open_cache(redis.url))
        change_notifier = await stack.enter_async_context(open_change_notifier(redis.url))
        environment = RevocationEnvironment(redis, gateways, CacheRevocationPublisher(cache, change_notifier))
        services.handlers["auth/get_current_session"] = environment.find
        await asyncio.sleep(2.5)  # after this time gateways use cache entries
        assert (
            await environment.viewers(REVOKED_TOKEN)
            == await environment.viewers(OTHER_TOKEN)
            == [SIGNED_IN_AS_ADA, SIGNED_IN_AS_ADA]
        )
        assert await environment.viewers(REVOKED_TOKEN) == [SIGNED_IN_AS_ADA, SIGNED_IN_AS_ADA]
        assert "read_at" in await environment.cached_session(), "there is a cache entry that could be used"
        yield environment


async def test_revocation_ends_requests_and_sockets_in_every_process(environment: RevocationEnvironment) -> None:
    async with AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(each.open(authorization(REVOKED_TOKEN))) for each in environment.gateways
        ]
        for socket in sockets:
            await socket.execute(VIEWER_QUERY)
        before = time.monotonic()
        await environment.revoke()
        assert await environment.viewers(REVOKED_TOKEN) == [ANONYMOUS, ANONYMOUS]
        assert [await socket.wait_for_close() for socket in sockets] == [4401, 4401]
        took = time.monotonic() - before
        assert took < 5, "usually a few hundredths of a second"
    assert await environment.viewers(OTHER_TOKEN) == [SIGNED_IN_AS_ADA, SIGNED_IN_AS_ADA]


@pytest.mark.parametrize("garbage", ["\\xff\\xfe", "\\x00", "\\xc3("])
async def test_revocation_is_noticed_after_invalid_text_on_its_channel(
    environment: RevocationEnvironment, garbage: str
) -> None:
    """The channel carries revocations to the gateways."""
    async with AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(each.open(authorization(REVOKED_TOKEN))) for each in environment.gateways
        ]
        for socket in sockets:
            await socket.execute(VIEWER_QUERY)
        await environment.redis.execute("EVAL", f"return redis.call('PUBLISH', 'changes:names', '{garbage}')", "0")
        before = time.monotonic()
        await environment.revoke()
        assert [await socket.wait_for_close() for socket in sockets] == [4401, 4401]
        assert time.monotonic() - before < 5, "usually a few hundredths of a second"


async def test_an_invalid_cache_entry_affects_no_other_session(environment: RevocationEnvironment) -> None:
    """Cache entries of many sessions are read in one call."""
    await environment.redis.execute(
        "EVAL", "return redis.call('SET', KEYS[1], '\\xff\\xfe')", "1", _cache_key(REVOKED_TOKEN)
    )
    results = await asyncio.gather(*(environment.viewers(token) for token in (REVOKED_TOKEN, OTHER_TOKEN) * 5))
    assert results == [[SIGNED_IN_AS_ADA, SIGNED_IN_AS_ADA]] * 10


def _cache_key(token: str) -> str:
    return session_cache_key(token_hash(token))


async def test_flushed_redis_neither_grants_access_nor_ends_sessions(environment: RevocationEnvironment) -> None:
    await environment.revoke()
    await environment.redis.execute("FLUSHALL")

    assert await environment.viewers(REVOKED_TOKEN) == [ANONYMOUS, ANONYMOUS]
    assert await environment.viewers(OTHER_TOKEN) == [SIGNED_IN_AS_ADA, SIGNED_IN_AS_ADA]


async def test_redis_restored_from_before_a_revocation_does_not_grant_access(
    environment: RevocationEnvironment,
) -> None:
    cached_session = CachedSession(
        session=environment.find(None, {"token_hash": token_hash(REVOKED_TOKEN)}), read_at=utc_now()
    )
    await environment.redis.execute(
        "SET", session_cache_key(token_hash(REVOKED_TOKEN)), cached_session.model_dump_json()
    )
    await environment.redis.execute("SAVE")
    await environment.revoke()
    environment.redis.kill()
    environment.redis.start()
    assert "read_at" in await environment.cached_session(), "the cache entry from before the revocation has returned"

    for _ in range(5):
        assert await environment.viewers(REVOKED_TOKEN) == [ANONYMOUS, ANONYMOUS]
    assert await environment.viewers(OTHER_TOKEN) == [SIGNED_IN_AS_ADA, SIGNED_IN_AS_ADA]


async def test_redis_restored_from_before_a_retraction_does_not_end_the_session(
    environment: RevocationEnvironment,
) -> None:
    await environment.revoke()
    await environment.redis.execute("SAVE")
    environment.ended.clear()
    await environment.revocations.retract(token_hash(REVOKED_TOKEN))
    environment.redis.kill()
    environment.redis.start()
    assert REVOKED in await environment.cached_session()

    assert await environment.viewers(REVOKED_TOKEN) == [SIGNED_IN_AS_ADA, SIGNED_IN_AS_ADA]


async def test_session_revoked_while_redis_is_down_grants_no_access_then_or_later(
    environment: RevocationEnvironment,
) -> None:
    await environment.redis.execute("SAVE")
    environment.redis.kill()
    await environment.revoke()
    assert await environment.viewers(REVOKED_TOKEN) == [ANONYMOUS, ANONYMOUS]
    assert await environment.viewers(OTHER_TOKEN) == [SIGNED_IN_AS_ADA, SIGNED_IN_AS_ADA]

    environment.redis.start()
    assert await environment.viewers(REVOKED_TOKEN) == [ANONYMOUS, ANONYMOUS]
    await environment.revocations.retry_pending()
    assert REVOKED in await environment.cached_session()
    assert await environment.viewers(REVOKED_TOKEN) == [ANONYMOUS, ANONYMOUS]


async def test_session_revoked_while_redis_hangs_grants_no_access_then_or_later(
    environment: RevocationEnvironment,
) -> None:
    environment.redis.send_signal(signal.SIGSTOP)
    await environment.revoke()
    assert await environment.viewers(REVOKED_TOKEN) == [ANONYMOUS, ANONYMOUS]

    environment.redis.send_signal(signal.SIGCONT)
    assert await environment.viewers(REVOKED_TOKEN) == [ANONYMOUS, ANONYMOUS]
    assert await environment.viewers(OTHER_TOKEN) == [SIGNED_IN_AS_ADA, SIGNED_IN_AS_ADA]
