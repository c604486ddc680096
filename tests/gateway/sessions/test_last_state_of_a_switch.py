"""A socket that follows the switch which ends its session receives the last state of the switch before it closes."""

from __future__ import annotations

import asyncio

from temporalio.client import Client

from contracts.auth import Role
from tests.gateway.fakes import ADA, TOKEN
from tests.gateway.live_gateway import FOLLOW, WHO, Gateway, introduction
from tests.gateway.sessions.auth_service import AuthService
from tests.gateway.sessions.streams import followed_operation, seconds_to_end
from tests.resolvers.scripted import scripts


async def test_a_socket_receives_the_end_of_the_switch_that_ended_its_session(
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    async with followed_operation(gateway, temporal_client) as (sock, script):
        await auth.end(by=script.id)
        await asyncio.sleep(1.2)  # a busy machine is slower than any guess
        await script.end()
        assert (await sock.next())["payload"]["data"]["operation"]["status"] == "COMPLETED"
        assert (await sock.next())["type"] == "complete"
        assert await seconds_to_end(sock) < 1


async def test_a_socket_receives_the_end_of_a_switch_that_ends_its_session_while_the_stream_starts(
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=ADA)
        auth.ends_when_found_by = script.id
        auth.handed_over_delay = 0.4  # and so long it is not known that the stream may follow the operation
        async with gateway.open(introduction()) as sock:
            await sock.subscribe(FOLLOW, id=script.id)
            assert (await sock.next())["payload"]["data"]["operation"]["status"] == "RUNNING"
            await script.end()
            assert (await sock.next())["payload"]["data"]["operation"]["status"] == "COMPLETED"
            assert (await sock.next())["type"] == "complete"
            assert await seconds_to_end(sock) < 1


async def test_a_switch_that_does_not_end_the_session_holds_up_nothing(
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    async with followed_operation(gateway, temporal_client) as (sock, script):
        await auth.end()
        assert await seconds_to_end(sock) < 1
        await script.end()


async def test_a_socket_stays_whose_session_is_back_once_the_switch_was_undone(
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    async with followed_operation(gateway, temporal_client) as (sock, script):
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
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    async with followed_operation(gateway, temporal_client) as (sock, script):
        before = auth.sessions[TOKEN]
        await auth.end(by=script.id)
        await auth.restore(TOKEN, before.model_copy(update={"role": Role.GUEST}))
        await script.end()
        assert await seconds_to_end(sock) < 5
