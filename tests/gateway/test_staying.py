"""Who stays with a session that ends: on websockets, whose token can be renewed, and on event streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiocache.base import BaseCache
from redis.asyncio import Redis
from temporalio.client import Client
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from activities.auth.revocations import CachedRevocations
from contracts.auth import HandedOverSession, Role, Session
from contracts.base import utc_now
from contracts.cache import open_cache
from contracts.calls import Caller
from contracts.errors import ServiceUnavailable, SessionEnded
from infrastructure.change_notifications import LocalWakeups, Wakeups, open_wakeups
from resolvers.tokens import token_hash
from tests.gateway.event_streams import following
from tests.gateway.fakes import ADA, GLOBEX, GRACE, TOKEN, Services, session, settings
from tests.gateway.serving import FOLLOW, WHO, Gateway, Socket, introduction, running_gateway, until
from tests.resolvers.scripted import scripts

PROTOCOL = Subprotocol("graphql-transport-ws")
SESSION_ENDED = 4401
FEED = "subscription { operations { id } }"


class Auth:
    """The auth service's sessions by token. ``revocations`` tells the edge as the service does."""

    def __init__(self, services: Services, revocations: CachedRevocations) -> None:
        self.sessions: dict[str, Session] = {TOKEN: session()}
        self.revocations = revocations
        self.is_away = False
        self.is_away_for: set[str] = set()
        self.ends_when_found = False
        self.delay = 0.0
        self._handed_over: dict[str, HandedOverSession] = {}
        services.handlers["auth/get_current_session"] = self._find
        services.handlers["auth/get_handed_over_session"] = self._find_handed_over

    async def _find(self, caller: Caller, body: dict[str, Any]) -> Session:
        await asyncio.sleep(self.delay)
        if self.is_away or body["token_hash"] in map(token_hash, self.is_away_for):
            raise ServiceUnavailable(service="auth")
        for token, found in self.sessions.items():
            if body["token_hash"] == token_hash(token):
                if self.ends_when_found:
                    del self.sessions[token]
                return found
        raise SessionEnded()

    def _find_handed_over(self, caller: Caller, body: dict[str, Any]) -> HandedOverSession:
        if body["token_hash"] not in self._handed_over:
            raise SessionEnded()
        return self._handed_over[body["token_hash"]]

    async def end(self, token: str = TOKEN, *, by: str | None = None) -> None:
        """``by`` is the switch that hands it over."""
        ended = self.sessions.pop(token)
        if by is not None:
            self._handed_over[token_hash(token)] = HandedOverSession(session=ended, ended_by=f"{by}:hand_over_session")
        await self.revocations.post(token_hash(token))

    async def restore(self, token: str, again: Session) -> None:
        self.sessions[token] = again
        await self.revocations.withdraw(token_hash(token))


@pytest.fixture
def wakeups() -> Wakeups:
    return LocalWakeups()


@pytest.fixture
def auth(services: Services, cache: BaseCache, wakeups: Wakeups) -> Auth:
    return Auth(services, CachedRevocations(cache, wakeups))


@pytest.fixture
async def gateway(
    temporal_address: str, services: Services, cache: BaseCache, wakeups: Wakeups, auth: Auth, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """In one process with the services."""
    known = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(known, services, cache=cache, wakeups=wakeups) as gateway:
        yield gateway


async def test_a_socket_ends_with_its_session_at_once(gateway: Gateway, auth: Auth) -> None:
    async with gateway.open(introduction()) as sock:
        await sock.subscribe(FEED)
        await sock.ask(WHO)
        await auth.end()
        assert await seconds_to_end(sock) < 1


async def test_with_redis_a_socket_ends_within_a_second_of_a_revocation_in_another_process(
    temporal_address: str, services: Services, redis_url: str, tmp_path: Path
) -> None:
    known = settings(temporal_address, data_dir=tmp_path, redis_url=redis_url)
    async with AsyncExitStack() as stack:
        elsewhere = CachedRevocations(
            await stack.enter_async_context(open_cache(redis_url)),
            await stack.enter_async_context(open_wakeups(redis_url)),
        )
        auth = Auth(services, elsewhere)
        token = "a-token-of-this-test"
        auth.sessions[token] = session("ses_" + "b" * 32)
        gateways = [await stack.enter_async_context(running_gateway(known, services)) for _ in range(2)]
        sockets = [
            await stack.enter_async_context(gateway.open(introduction(token))) for gateway in gateways for _ in range(3)
        ]
        for sock in sockets:
            assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"] is not None
        await auth.end(token)
        assert max(await asyncio.gather(*map(seconds_to_end, sockets))) < 1
        await Redis.from_url(redis_url).aclose()


async def test_without_redis_a_revocation_elsewhere_is_seen_at_the_next_look(
    temporal_address: str, services: Services, cache: BaseCache, tmp_path: Path
) -> None:
    """Nothing reaches this process: its copy of the session still says that it lives."""
    auth = Auth(services, CachedRevocations(cache, LocalWakeups()))
    known = settings(temporal_address, data_dir=tmp_path, session_check_seconds=2)
    async with running_gateway(known, services) as gateway, gateway.open(introduction()) as sock:
        await sock.ask(WHO)
        await auth.end()
        assert 0.2 < await seconds_to_end(sock) < 3


async def test_a_socket_ends_when_its_session_expires(gateway: Gateway, auth: Auth) -> None:
    auth.sessions[TOKEN] = session().model_copy(update={"expires_at": utc_now() + timedelta(seconds=1.5)})
    async with gateway.open(introduction()) as sock:
        await sock.ask(WHO)
        auth.is_away = True
        assert 0.5 < await seconds_to_end(sock) < 2.5


@pytest.mark.parametrize(
    "change",
    [{"role": Role.GUEST}, {"permissions": ("tenant:read",)}, {"tenant_id": GLOBEX}],
    ids=lambda each: next(iter(each)),
)
async def test_a_socket_ends_when_its_viewer_may_no_longer_do_the_same(
    gateway: Gateway, auth: Auth, change: dict[str, Any]
) -> None:
    async with gateway.open(introduction()) as sock:
        await sock.ask(WHO)
        changed = auth.sessions[TOKEN].model_copy(update=change)
        await auth.end()
        await auth.restore(TOKEN, changed)
        assert await seconds_to_end(sock) < 1


async def test_an_auth_service_that_does_not_answer_ends_no_session(
    temporal_address: str, services: Services, cache: BaseCache, tmp_path: Path
) -> None:
    auth = Auth(services, CachedRevocations(cache, LocalWakeups()))
    known = settings(temporal_address, data_dir=tmp_path, session_check_seconds=0.5)
    async with running_gateway(known, services) as gateway, gateway.open(introduction()) as sock:
        await sock.ask(WHO)
        auth.is_away = True
        await asyncio.sleep(1.5)
        auth.is_away = False
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"] is not None


async def test_the_token_of_a_login_under_way_ends_nothing_until_it_has_opened_something(
    gateway: Gateway, auth: Auth
) -> None:
    later = auth.sessions.pop(TOKEN)
    async with gateway.open(introduction()) as sock:
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"] is None
        auth.sessions[TOKEN] = later
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"] is not None
        await auth.end()
        assert await seconds_to_end(sock) < 1


async def test_one_look_serves_all_sockets_of_a_session(
    temporal_address: str, services: Services, cache: BaseCache, tmp_path: Path
) -> None:
    Auth(services, CachedRevocations(cache, LocalWakeups()))
    known = settings(temporal_address, data_dir=tmp_path, session_check_seconds=1)
    async with running_gateway(known, services) as gateway, AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(gateway.open(introduction()))
        before, began = len(services.asked("auth/get_current_session")), time.monotonic()
        await asyncio.sleep(3)
        looks, seconds = len(services.asked("auth/get_current_session")) - before, time.monotonic() - began
        assert 2 <= looks <= seconds / 0.8 + 1


async def test_who_follows_the_switch_that_ends_their_session_is_told_its_end_first(
    gateway: Gateway, auth: Auth, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter, gateway.open(introduction()) as sock:
        script = await starter.start(user_id=ADA)
        await sock.subscribe(FOLLOW, id=script.id)
        assert (await sock.next())["payload"]["data"]["operation"]["status"] == "RUNNING"
        await auth.end(by=script.id)
        await asyncio.sleep(1.2)  # a busy machine is slower than any guess
        await script.end()
        assert (await sock.next())["payload"]["data"]["operation"]["status"] == "COMPLETED"
        assert (await sock.next())["type"] == "complete"
        assert await seconds_to_end(sock) < 1


async def test_a_switch_that_does_not_end_the_session_holds_up_nothing(
    gateway: Gateway, auth: Auth, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter, gateway.open(introduction()) as sock:
        script = await starter.start(user_id=ADA)
        await sock.subscribe(FOLLOW, id=script.id)
        await sock.next()
        await auth.end()
        assert await seconds_to_end(sock) < 1
        await script.end()


async def test_a_socket_stays_whose_session_is_back_once_the_switch_was_undone(
    gateway: Gateway, auth: Auth, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter, gateway.open(introduction()) as sock:
        script = await starter.start(user_id=ADA)
        await sock.subscribe(FOLLOW, id=script.id)
        await sock.next()
        before = auth.sessions[TOKEN]
        await auth.end()
        await auth.restore(TOKEN, before)
        await script.end()
        while (await sock.next())["type"] != "complete":
            pass
        await asyncio.sleep(1)
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"] is not None
        await auth.end()
        assert await seconds_to_end(sock) < 1


async def test_a_socket_ends_whose_session_is_back_with_a_lower_role_once_the_switch_was_undone(
    gateway: Gateway, auth: Auth, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter, gateway.open(introduction()) as sock:
        script = await starter.start(user_id=ADA)
        await sock.subscribe(FOLLOW, id=script.id)
        await sock.next()
        before = auth.sessions[TOKEN]
        await auth.end(by=script.id)
        await auth.restore(TOKEN, before.model_copy(update={"role": Role.GUEST}))
        await script.end()
        assert await seconds_to_end(sock) < 5


async def test_no_task_is_left_of_sockets_and_streams_that_have_ended(
    gateway: Gateway, auth: Auth, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=ADA)
        async with gateway.open(introduction()) as sock, httpx.AsyncClient() as client:
            await sock.subscribe(FOLLOW, id=script.id)
            await sock.next()
            async with following(client, gateway, FEED):
                await until(lambda: len(watches()) == 1)
            done = await sock.subscribe(WHO)
            await sock.next_of(done)
            assert len(watches()) == 1
        await until(lambda: watches() == [])
        async with httpx.AsyncClient() as client, following(client, gateway, FOLLOW, id=script.id) as events:
            await until(lambda: len(watches()) == 1)
            await script.end()
            assert [event.kind async for event in events if event.kind != "heartbeat"][-1] == "complete"
        await until(lambda: watches() == [])


async def test_a_stream_that_has_completed_watches_no_session_any_more(
    gateway: Gateway, auth: Auth, temporal_client: Client
) -> None:
    """The socket itself goes on, with another session."""
    auth.sessions["newer"] = session("ses_" + "b" * 32)
    async with scripts(temporal_client) as starter, gateway.open(introduction()) as sock:
        script = await starter.start(user_id=ADA)
        name = await sock.subscribe(FOLLOW, id=script.id)
        await sock.next_of(name)
        assert (await renew(sock, "newer"))["payload"] == {"authorization": "renewed"}
        await until(lambda: len(watches()) == 2)
        await script.end()
        while (await sock.next_of(name))["type"] != "complete":
            pass
        await until(lambda: len(watches()) == 1)


def watches() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "watch a session"]


# ------------------------------------------------------------------------------------------------- renewal


async def renew(sock: Socket, token: str) -> Any:
    await sock.say({"type": "ping", "payload": {"authorization": f"Bearer {token}"}})
    return await sock.next_of(None)


@pytest.mark.parametrize("query", [FEED, FOLLOW], ids=["feed", "one operation"])
async def test_streams_end_with_the_session_they_began_with_also_after_a_renewal(
    gateway: Gateway, auth: Auth, temporal_client: Client, query: str
) -> None:
    auth.sessions["newer"] = session("ses_" + "b" * 32)
    async with scripts(temporal_client) as starter, gateway.open(introduction()) as sock:
        script = await starter.start(user_id=ADA)
        begun = await sock.subscribe(query, **({"id": script.id} if query == FOLLOW else {}))
        if query == FOLLOW:
            await sock.next()
        await sock.ask_beside(WHO)
        assert await renew(sock, "newer") == {"type": "pong", "payload": {"authorization": "renewed"}}
        later = await sock.subscribe(FOLLOW, id=script.id)
        assert (await sock.next())["id"] == later
        before = time.monotonic()
        await auth.end(TOKEN)
        error = await sock.next_of(begun)
        assert (error["type"], error["payload"][0]["extensions"]["code"]) == ("error", "UNAUTHENTICATED")
        assert time.monotonic() - before < 1
        await script.end()
        assert (await sock.next())["payload"]["data"]["operation"]["status"] == "COMPLETED"
        assert (await sock.next()) == {"id": later, "type": "complete"}
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"] is not None
        await auth.end("newer")
        assert await seconds_to_end(sock) < 1


async def test_a_burst_of_introduction_subscription_and_another_users_token_renews_nothing(
    gateway: Gateway, auth: Auth
) -> None:
    auth.sessions["other"] = session("ses_" + "b" * 32, user_id=GRACE)
    auth.delay = 0.3
    async with connect(gateway.url, subprotocols=[PROTOCOL]) as connection:
        sock = Socket(connection)
        await sock.say({"type": "connection_init", "payload": introduction()})
        await sock.subscribe(FEED)
        await sock.say({"type": "ping", "payload": introduction("other")})
        assert (await sock.next())["type"] == "connection_ack"
        assert await sock.next_of(None) == {"type": "pong", "payload": {"authorization": "refused"}}
        auth.delay = 0
        await auth.end()
        assert await seconds_to_end(sock) < 1


async def test_nothing_is_renewed_while_the_auth_service_does_not_tell_what_is_to_be_replaced(
    gateway: Gateway, auth: Auth
) -> None:
    auth.sessions["newer"] = session("ses_" + "b" * 32)
    async with gateway.open(introduction()) as sock:
        auth.is_away = True
        assert await renew(sock, "newer") == {"type": "pong", "payload": {"authorization": "refused"}}
        auth.is_away, auth.is_away_for = False, {TOKEN}
        assert await renew(sock, "newer") == {"type": "pong", "payload": {"authorization": "refused"}}
        auth.is_away_for = set()
        assert await renew(sock, "newer") == {"type": "pong", "payload": {"authorization": "renewed"}}


async def test_a_session_that_has_ended_is_not_renewed_though_its_end_was_not_noticed_yet(
    temporal_address: str, services: Services, cache: BaseCache, tmp_path: Path
) -> None:
    """No notification arrives, and the next check is far away."""
    auth = Auth(services, CachedRevocations(cache, LocalWakeups()))
    auth.sessions["newer"] = session("ses_" + "b" * 32)
    known = settings(temporal_address, data_dir=tmp_path, session_check_seconds=4)
    async with running_gateway(known, services) as gateway, gateway.open(introduction()) as sock:
        await sock.ask(WHO)
        await auth.end()
        assert await renew(sock, "newer") == {"type": "pong", "payload": {"authorization": "refused"}}
        assert await seconds_to_end(sock) < 5


async def test_a_socket_whose_session_has_ended_takes_no_renewal_until_the_session_is_back(
    gateway: Gateway, auth: Auth, temporal_client: Client
) -> None:
    """It is open only to be told the end of the switch that ended its session."""
    auth.sessions["newer"] = session("ses_" + "b" * 32)
    async with scripts(temporal_client) as starter, gateway.open(introduction()) as sock:
        script = await starter.start(user_id=ADA)
        await sock.subscribe(FOLLOW, id=script.id)
        await sock.next()
        before = auth.sessions[TOKEN]
        await auth.end(by=script.id)
        await asyncio.sleep(0.3)
        assert (await renew(sock, "newer"))["payload"] == {"authorization": "refused"}
        await auth.restore(TOKEN, before)
        assert (await renew(sock, "newer"))["payload"] == {"authorization": "refused"}
        await script.end()
        while (await sock.next())["type"] != "complete":
            pass
        async with asyncio.timeout(5):
            while (await renew(sock, "newer"))["payload"] != {"authorization": "renewed"}:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def test_a_stream_does_not_start_while_nobody_tells_whose_it_is(gateway: Gateway, auth: Auth) -> None:
    auth.is_away = True
    async with gateway.open(introduction()) as sock, httpx.AsyncClient() as client:
        (error,) = await sock.ask(FEED)
        assert error["payload"][0]["extensions"]["code"] == "UPSTREAM_UNAVAILABLE"
        async with following(client, gateway, FEED) as events:
            told = [event async for event in events if event.kind == "next"]
        assert [event.codes for event in told] == [["UPSTREAM_UNAVAILABLE"]]


async def test_a_session_found_late_is_watched_and_counted_all_the_same(
    temporal_address: str, services: Services, cache: BaseCache, wakeups: Wakeups, auth: Auth, tmp_path: Path
) -> None:
    """The service did not answer as the socket was opened."""
    known = settings(temporal_address, data_dir=tmp_path, sockets_by_user=1)
    async with running_gateway(known, services, cache=cache, wakeups=wakeups) as gateway:
        auth.is_away = True
        async with gateway.open(introduction()) as first, gateway.open() as second:
            auth.is_away = False
            await asyncio.sleep(1.5)
            await second.say({"type": "ping", "payload": introduction()})
            assert await second.end() == 4429
            await auth.end()
            assert await seconds_to_end(first) < 1


@pytest.mark.parametrize(
    "other",
    [
        None,
        session("ses_" + "b" * 32, user_id=GRACE),
        session("ses_" + "b" * 32).model_copy(update={"tenant_id": GLOBEX}),
        session("ses_" + "b" * 32).model_copy(update={"role": Role.GUEST}),
    ],
    ids=["nothing", "another user", "another tenant", "another role"],
)
async def test_a_token_that_opens_something_else_is_refused_and_the_socket_goes_on(
    gateway: Gateway, auth: Auth, other: Session | None
) -> None:
    if other is not None:
        auth.sessions["other"] = other
    async with gateway.open(introduction()) as sock:
        await sock.ask(WHO)
        assert await renew(sock, "other") == {"type": "pong", "payload": {"authorization": "refused"}}
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"]["user"]["id"] == ADA


async def test_a_socket_without_a_session_gets_one_by_renewal(gateway: Gateway, auth: Auth) -> None:
    async with gateway.open() as sock:
        assert (await renew(sock, TOKEN))["payload"] == {"authorization": "renewed"}
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"]["user"]["id"] == ADA
        await auth.end()
        assert await seconds_to_end(sock) < 1


async def test_a_session_that_ends_as_a_stream_begins_ends_the_stream(gateway: Gateway, auth: Auth) -> None:
    """It was found, and was over before anybody watched it; no notification arrives after that."""
    auth.ends_when_found = True
    async with gateway.open() as sock:
        async with httpx.AsyncClient() as client, following(client, gateway, FEED) as events:
            told = [event async for event in events if event.kind == "next"]
        assert told[-1].codes == ["UNAUTHENTICATED"]
        auth.sessions["again"] = session("ses_" + "c" * 32)
        await sock.say({"type": "ping", "payload": introduction("again")})
        assert await seconds_to_end(sock) < 1


# ------------------------------------------------------------------------------------------------- event streams


@pytest.mark.parametrize("query", [FEED, FOLLOW], ids=["feed", "one operation"])
@pytest.mark.parametrize("accept", ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0,application/json"])
async def test_an_event_stream_ends_with_its_session(
    gateway: Gateway, auth: Auth, accept: str, query: str, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=ADA)
        await _ends_with_its_session(gateway, auth, accept, query, script.id)
        await script.end()


async def _ends_with_its_session(gateway: Gateway, auth: Auth, accept: str, query: str, id: str) -> None:
    which: dict[str, Any] = {"id": id} if query == FOLLOW else {}
    async with httpx.AsyncClient() as client, following(client, gateway, query, accept=accept, **which) as events:
        await asyncio.sleep(0.5)
        begun = time.monotonic()
        await auth.end()
        told = [event async for event in events]
        assert time.monotonic() - begun < 1
    last, end = [event for event in told if event.kind != "heartbeat"][-2:]  # what she has under way may come before
    assert (last.kind, end.kind) == ("next", "complete")
    assert last.codes == ["UNAUTHENTICATED"]


async def seconds_to_end(sock: Socket) -> float:
    """After which it is closed because its session has ended."""
    begun = time.monotonic()
    assert await sock.end() == SESSION_ENDED
    return time.monotonic() - begun
