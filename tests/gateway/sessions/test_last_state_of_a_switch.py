"""A socket receives the final state of the tenant switch that ends its session before the socket closes."""

from __future__ import annotations

import asyncio

from temporalio.client import Client

from contracts.auth import Role
from tests.gateway.fakes import ADA, TOKEN
from tests.gateway.live_gateway import FOLLOW, VIEWER_QUERY, Gateway, authorization
from tests.gateway.sessions.auth_service import AuthService
from tests.gateway.sessions.streams import followed_operation, seconds_to_end
from tests.resolvers.scripted import scripts


async def test_receives_the_final_state_of_the_switch_that_ended_the_session(
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    async with followed_operation(gateway, temporal_client) as (sock, script):
        await auth.end(by=script.id)
        await asyncio.sleep(1.2)  # longer than the gateway needs to notice the end of the session
        await script.end()
        assert (await sock.receive())["payload"]["data"]["operation"]["status"] == "COMPLETED"
        assert (await sock.receive())["type"] == "complete"
        assert await seconds_to_end(sock) < 1


async def test_receives_the_final_state_when_the_session_ends_while_the_stream_starts(
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=ADA)
        auth.ends_when_found_by = script.id
        auth.handed_over_delay = 0.4  # until then the gateway does not know that the stream may follow the switch
        async with gateway.open(authorization()) as sock:
            await sock.subscribe(FOLLOW, id=script.id)
            assert (await sock.receive())["payload"]["data"]["operation"]["status"] == "RUNNING"
            await script.end()
            assert (await sock.receive())["payload"]["data"]["operation"]["status"] == "COMPLETED"
            assert (await sock.receive())["type"] == "complete"
            assert await seconds_to_end(sock) < 1


async def test_closes_immediately_when_something_else_than_the_switch_ends_the_session(
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    async with followed_operation(gateway, temporal_client) as (sock, script):
        await auth.end()
        assert await seconds_to_end(sock) < 1
        await script.end()


async def test_stays_open_when_the_undone_switch_has_restored_the_session(
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    async with followed_operation(gateway, temporal_client) as (sock, script):
        before = auth.sessions[TOKEN]
        await auth.end()
        await auth.restore(TOKEN, before)
        await script.end()
        while (await sock.receive())["type"] != "complete":
            pass
        await asyncio.sleep(1)
        assert (await sock.execute(VIEWER_QUERY))[0]["payload"]["data"]["viewer"] is not None
        await auth.end()
        assert await seconds_to_end(sock) < 1


async def test_closes_when_the_restored_session_has_a_lower_role(
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    async with followed_operation(gateway, temporal_client) as (sock, script):
        before = auth.sessions[TOKEN]
        await auth.end(by=script.id)
        await auth.restore(TOKEN, before.model_copy(update={"role": Role.GUEST}))
        await script.end()
        assert await seconds_to_end(sock) < 5
