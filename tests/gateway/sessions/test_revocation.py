"""A session that is over opens nothing in any process, whatever becomes of Redis, and one that lives goes on."""

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
from tests.gateway.fakes import ADA, Services, session, settings
from tests.gateway.live_gateway import Gateway, introduction, running_gateway
from tests.redis_access import open_cache, open_change_notifier
from tests.redis_server import RedisServer

WHO = "{ viewer { user { id } } }"
NOBODY: dict[str, Any] = {"viewer": None}
SHE = {"viewer": {"user": {"id": ADA}}}
LOST, KEPT = "the-revoked-token", "the-other-token"


class World:
    """Two gateways and the auth service's word, on one Redis."""

    def __init__(self, redis: RedisServer, gateways: list[Gateway], revocations: CacheRevocationPublisher) -> None:
        self.redis = redis
        self.gateways = gateways
        self.revocations = revocations
        self.ended: set[str] = set()

    def find(self, _caller: object, body: dict[str, Any]) -> Any:
        known = {token_hash(LOST): "ses_" + "a" * 32, token_hash(KEPT): "ses_" + "b" * 32}
        if body["token_hash"] in self.ended or body["token_hash"] not in known:
            raise SessionEnded()
        return session(known[body["token_hash"]])

    async def revoke(self) -> None:
        """As the auth service does: first in its database, then in the cache."""
        self.ended.add(token_hash(LOST))
        await self.revocations.publish(token_hash(LOST))

    async def who(self, token: str) -> list[Any]:
        """What each gateway says."""
        headers = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(timeout=20, headers=headers) as client:
            answers = [await client.post(f"{each.http}/graphql", json={"query": WHO}) for each in self.gateways]
        return [answer.json()["data"] for answer in answers]

    async def copy(self) -> str:
        return str(await self.redis.execute("GET", session_cache_key(token_hash(LOST))))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.close()


@pytest.fixture
async def world(redis: RedisServer, temporal_address: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        services = Services()
        told = settings(temporal_address, redis_url=redis.url)
        gateways = [await stack.enter_async_context(running_gateway(told, services)) for _ in range(2)]
        cache = await stack.enter_async_context(open_cache(redis.url))
        change_notifier = await stack.enter_async_context(open_change_notifier(redis.url))
        world = World(redis, gateways, CacheRevocationPublisher(cache, change_notifier))
        services.handlers["auth/get_current_session"] = world.find
        await asyncio.sleep(2.5)  # from when on copies are believed
        assert await world.who(LOST) == await world.who(KEPT) == [SHE, SHE]
        assert await world.who(LOST) == [SHE, SHE]
        assert "read_at" in await world.copy(), "there is a copy that could be believed"
        yield world


async def test_it_is_over_at_once_for_requests_and_sockets_of_every_process(world: World) -> None:
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(each.open(introduction(LOST))) for each in world.gateways]
        for socket in sockets:
            await socket.ask(WHO)
        before = time.monotonic()
        await world.revoke()
        assert await world.who(LOST) == [NOBODY, NOBODY]
        assert [await socket.end() for socket in sockets] == [4401, 4401]
        took = time.monotonic() - before
        assert took < 5, "usually a few hundredths of a second"
    assert await world.who(KEPT) == [SHE, SHE]


@pytest.mark.parametrize("garbage", ["\\xff\\xfe", "\\x00", "\\xc3("])
async def test_it_is_over_at_once_although_invalid_text_was_published(world: World, garbage: str) -> None:
    """On the channel that carries revocations to gateways."""
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(each.open(introduction(LOST))) for each in world.gateways]
        for socket in sockets:
            await socket.ask(WHO)
        await world.redis.execute("EVAL", f"return redis.call('PUBLISH', 'changes:names', '{garbage}')", "0")
        before = time.monotonic()
        await world.revoke()
        assert [await socket.end() for socket in sockets] == [4401, 4401]
        assert time.monotonic() - before < 5, "usually a few hundredths of a second"


async def test_an_invalid_copy_affects_no_other_session(world: World) -> None:
    """TaggedCache of sessions are read many at once."""
    await world.redis.execute("EVAL", "return redis.call('SET', KEYS[1], '\\xff\\xfe')", "1", _copy_key(LOST))
    found = await asyncio.gather(*(world.who(token) for token in (LOST, KEPT) * 5))
    assert found == [[SHE, SHE]] * 10


def _copy_key(token: str) -> str:
    return session_cache_key(token_hash(token))


async def test_a_redis_that_forgot_everything_lets_nobody_in_and_signs_nobody_out(world: World) -> None:
    await world.revoke()
    await world.redis.execute("FLUSHALL")

    assert await world.who(LOST) == [NOBODY, NOBODY]
    assert await world.who(KEPT) == [SHE, SHE]


async def test_a_redis_restored_from_before_the_revocation_lets_nobody_in_and_signs_nobody_out(world: World) -> None:
    copy = CachedSession(session=world.find(None, {"token_hash": token_hash(LOST)}), read_at=utc_now())
    await world.redis.execute("SET", session_cache_key(token_hash(LOST)), copy.model_dump_json())
    await world.redis.execute("SAVE")
    await world.revoke()
    world.redis.kill()
    world.redis.start()
    assert "read_at" in await world.copy(), "the copy from before is there again"

    for _ in range(5):
        assert await world.who(LOST) == [NOBODY, NOBODY]
    assert await world.who(KEPT) == [SHE, SHE]


async def test_a_redis_restored_from_before_a_revocation_was_taken_back_signs_nobody_out(world: World) -> None:
    await world.revoke()
    await world.redis.execute("SAVE")
    world.ended.clear()
    await world.revocations.retract(token_hash(LOST))
    world.redis.kill()
    world.redis.start()
    assert REVOKED in await world.copy()

    assert await world.who(LOST) == [SHE, SHE]


async def test_what_is_revoked_while_redis_is_down_is_over_then_and_afterwards(world: World) -> None:
    await world.redis.execute("SAVE")
    world.redis.kill()
    await world.revoke()
    assert await world.who(LOST) == [NOBODY, NOBODY]
    assert await world.who(KEPT) == [SHE, SHE]

    world.redis.start()
    assert await world.who(LOST) == [NOBODY, NOBODY]
    await world.revocations.retry_pending()
    assert REVOKED in await world.copy()
    assert await world.who(LOST) == [NOBODY, NOBODY]


async def test_what_is_revoked_while_redis_hangs_is_over_then_and_afterwards(world: World) -> None:
    world.redis.send_signal(signal.SIGSTOP)
    await world.revoke()
    assert await world.who(LOST) == [NOBODY, NOBODY]

    world.redis.send_signal(signal.SIGCONT)
    assert await world.who(LOST) == [NOBODY, NOBODY]
    assert await world.who(KEPT) == [SHE, SHE]
