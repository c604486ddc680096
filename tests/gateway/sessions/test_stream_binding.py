"""A stream is bound to the session it was started with, on websockets and as an event stream."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from tests.gateway.fakes import ADA, TOKEN, session
from tests.gateway.http.event_streams import open_event_stream
from tests.gateway.live_gateway import FOLLOW, VIEWER_QUERY, Gateway, authorization, wait_until
from tests.gateway.sessions.auth_service import AuthService
from tests.gateway.sessions.streams import FEED, renew, seconds_to_end
from tests.resolvers.scripted import scripts


@pytest.mark.parametrize("query", [FEED, FOLLOW], ids=["feed", "one operation"])
async def test_streams_end_with_the_session_they_were_started_with_after_a_renewal(
    gateway: Gateway, auth: AuthService, temporal_client: Client, query: str
) -> None:
    auth.sessions["newer"] = session("ses_" + "b" * 32)
    async with scripts(temporal_client) as starter, gateway.open(authorization()) as sock:
        script = await starter.start(user_id=ADA)
        started_at = await sock.subscribe(query, **({"id": script.id} if query == FOLLOW else {}))
        if query == FOLLOW:
            await sock.receive()
        await sock.execute_among_others(VIEWER_QUERY)
        assert await renew(sock, "newer") == {"type": "pong", "payload": {"authorization": "renewed"}}
        later = await sock.subscribe(FOLLOW, id=script.id)
        assert (await sock.receive())["id"] == later
        before = time.monotonic()
        await auth.end(TOKEN)
        error = await sock.receive_for(started_at)
        assert (error["type"], error["payload"][0]["extensions"]["code"]) == ("error", "UNAUTHENTICATED")
        assert time.monotonic() - before < 1
        await script.end()
        assert (await sock.receive())["payload"]["data"]["operation"]["status"] == "COMPLETED"
        assert (await sock.receive()) == {"id": later, "type": "complete"}
        assert (await sock.execute(VIEWER_QUERY))[0]["payload"]["data"]["viewer"] is not None
        await auth.end("newer")
        assert await seconds_to_end(sock) < 1


@pytest.mark.parametrize("query", [FEED, FOLLOW], ids=["feed", "one operation"])
@pytest.mark.parametrize("accept", ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0,application/json"])
async def test_event_stream_ends_with_its_session(
    gateway: Gateway, auth: AuthService, accept: str, query: str, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=ADA)
        await _check_that_the_stream_ends_with_its_session(gateway, auth, accept, query, script.id)
        await script.end()


async def _check_that_the_stream_ends_with_its_session(
    gateway: Gateway, auth: AuthService, accept: str, query: str, id: str
) -> None:
    variables: dict[str, Any] = {"id": id} if query == FOLLOW else {}
    async with (
        httpx.AsyncClient() as client,
        open_event_stream(client, gateway, query, accept=accept, **variables) as events,
    ):
        await asyncio.sleep(0.5)
        started_at = time.monotonic()
        await auth.end()
        received = [event async for event in events]
        assert time.monotonic() - started_at < 1
    last, end = [event for event in received if event.kind != "heartbeat"][
        -2:
    ]  # states of running operations may precede them
    assert (last.kind, end.kind) == ("next", "complete")
    assert last.codes == ["UNAUTHENTICATED"]


async def test_stream_does_not_start_while_its_session_cannot_be_read(gateway: Gateway, auth: AuthService) -> None:
    auth.is_unavailable = True
    async with gateway.open(authorization()) as sock, httpx.AsyncClient() as client:
        (error,) = await sock.execute(FEED)
        assert error["payload"][0]["extensions"]["code"] == "UPSTREAM_UNAVAILABLE"
        async with open_event_stream(client, gateway, FEED) as events:
            results = [event async for event in events if event.kind == "next"]
        assert [event.codes for event in results] == [["UPSTREAM_UNAVAILABLE"]]


async def test_session_that_ends_while_a_stream_starts_ends_the_stream(gateway: Gateway, auth: AuthService) -> None:
    """The session ends between its lookup and the start of monitoring, so no notification arrives afterwards."""
    auth.ends_when_found = True
    async with gateway.open() as sock:
        async with httpx.AsyncClient() as client, open_event_stream(client, gateway, FEED) as events:
            results = [event async for event in events if event.kind == "next"]
        assert results[-1].codes == ["UNAUTHENTICATED"]
        auth.sessions["again"] = session("ses_" + "c" * 32)
        await sock.send({"type": "ping", "payload": authorization("again")})
        assert await seconds_to_end(sock) < 1


async def test_closed_sockets_and_streams_leave_no_task(
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=ADA)
        async with gateway.open(authorization()) as sock, httpx.AsyncClient() as client:
            await sock.subscribe(FOLLOW, id=script.id)
            await sock.receive()
            async with open_event_stream(client, gateway, FEED):
                await wait_until(lambda: len(monitor_tasks()) == 1)
            done = await sock.subscribe(VIEWER_QUERY)
            await sock.receive_for(done)
            assert len(monitor_tasks()) == 1
        await wait_until(lambda: monitor_tasks() == [])
        async with httpx.AsyncClient() as client, open_event_stream(client, gateway, FOLLOW, id=script.id) as events:
            await wait_until(lambda: len(monitor_tasks()) == 1)
            await script.end()
            assert [event.kind async for event in events if event.kind != "heartbeat"][-1] == "complete"
        await wait_until(lambda: monitor_tasks() == [])


async def test_completed_stream_releases_its_session(
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    """The socket continues with another session."""
    auth.sessions["newer"] = session("ses_" + "b" * 32)
    async with scripts(temporal_client) as starter, gateway.open(authorization()) as sock:
        script = await starter.start(user_id=ADA)
        operation_id = await sock.subscribe(FOLLOW, id=script.id)
        await sock.receive_for(operation_id)
        assert (await renew(sock, "newer"))["payload"] == {"authorization": "renewed"}
        await wait_until(lambda: len(monitor_tasks()) == 2)
        await script.end()
        while (await sock.receive_for(operation_id))["type"] != "complete":
            pass
        await wait_until(lambda: len(monitor_tasks()) == 1)


def monitor_tasks() -> list[asyncio.Task[Any]]:
    """Return the running tasks that monitor a session."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "watch a session"]
