"""A stream is bound to the session that it was started with, on websockets and as an event stream."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from tests.gateway.fakes import ADA, TOKEN, session
from tests.gateway.http.event_streams import following
from tests.gateway.live_gateway import FOLLOW, WHO, Gateway, introduction, until
from tests.gateway.sessions.auth_service import AuthService
from tests.gateway.sessions.streams import FEED, renew, seconds_to_end
from tests.resolvers.scripted import scripts


@pytest.mark.parametrize("query", [FEED, FOLLOW], ids=["feed", "one operation"])
async def test_streams_end_with_the_session_they_began_with_also_after_a_renewal(
    gateway: Gateway, auth: AuthService, temporal_client: Client, query: str
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


@pytest.mark.parametrize("query", [FEED, FOLLOW], ids=["feed", "one operation"])
@pytest.mark.parametrize("accept", ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0,application/json"])
async def test_an_event_stream_ends_with_its_session(
    gateway: Gateway, auth: AuthService, accept: str, query: str, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=ADA)
        await _ends_with_its_session(gateway, auth, accept, query, script.id)
        await script.end()


async def _ends_with_its_session(gateway: Gateway, auth: AuthService, accept: str, query: str, id: str) -> None:
    which: dict[str, Any] = {"id": id} if query == FOLLOW else {}
    async with httpx.AsyncClient() as client, following(client, gateway, query, accept=accept, **which) as events:
        await asyncio.sleep(0.5)
        begun = time.monotonic()
        await auth.end()
        received = [event async for event in events]
        assert time.monotonic() - begun < 1
    last, end = [event for event in received if event.kind != "heartbeat"][-2:]  # running operations may come before
    assert (last.kind, end.kind) == ("next", "complete")
    assert last.codes == ["UNAUTHENTICATED"]


async def test_a_stream_does_not_start_while_its_session_is_unknown(gateway: Gateway, auth: AuthService) -> None:
    auth.is_away = True
    async with gateway.open(introduction()) as sock, httpx.AsyncClient() as client:
        (error,) = await sock.ask(FEED)
        assert error["payload"][0]["extensions"]["code"] == "UPSTREAM_UNAVAILABLE"
        async with following(client, gateway, FEED) as events:
            results = [event async for event in events if event.kind == "next"]
        assert [event.codes for event in results] == [["UPSTREAM_UNAVAILABLE"]]


async def test_a_session_that_ends_as_a_stream_begins_ends_the_stream(gateway: Gateway, auth: AuthService) -> None:
    """It was found, and was over before it was watched; no notification arrives after that."""
    auth.ends_when_found = True
    async with gateway.open() as sock:
        async with httpx.AsyncClient() as client, following(client, gateway, FEED) as events:
            results = [event async for event in events if event.kind == "next"]
        assert results[-1].codes == ["UNAUTHENTICATED"]
        auth.sessions["again"] = session("ses_" + "c" * 32)
        await sock.say({"type": "ping", "payload": introduction("again")})
        assert await seconds_to_end(sock) < 1


async def test_no_task_is_left_of_sockets_and_streams_that_have_ended(
    gateway: Gateway, auth: AuthService, temporal_client: Client
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
    gateway: Gateway, auth: AuthService, temporal_client: Client
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
