"""A ping with a token renews the token of its socket if both tokens belong to sessions with the same rights."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from temporalio.client import Client
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from contracts.auth import Role, Session
from tests.gateway.fakes import ADA, GLOBEX, GRACE, TOKEN, FakeServices, session, settings
from tests.gateway.live_gateway import VIEWER_QUERY, Gateway, Socket, authorization, running_gateway
from tests.gateway.sessions.auth_service import AuthService
from tests.gateway.sessions.streams import FEED, followed_operation, renew, seconds_to_end

PROTOCOL = Subprotocol("graphql-transport-ws")


async def test_refuses_another_users_token_that_follows_connection_init_immediately(
    gateway: Gateway, auth: AuthService
) -> None:
    auth.sessions["other"] = session("ses_" + "b" * 32, user_id=GRACE)
    auth.delay = 0.3
    async with connect(gateway.url, subprotocols=[PROTOCOL]) as connection:
        sock = Socket(connection)
        await sock.send({"type": "connection_init", "payload": authorization()})
        await sock.subscribe(FEED)
        await sock.send({"type": "ping", "payload": authorization("other")})
        assert (await sock.receive())["type"] == "connection_ack"
        assert await sock.receive_for(None) == {"type": "pong", "payload": {"authorization": "refused"}}
        auth.delay = 0
        await auth.end()
        assert await seconds_to_end(sock) < 1


async def test_refuses_renewal_while_the_current_session_cannot_be_read(gateway: Gateway, auth: AuthService) -> None:
    auth.sessions["newer"] = session("ses_" + "b" * 32)
    async with gateway.open(authorization()) as sock:
        auth.is_unavailable = True
        assert await renew(sock, "newer") == {"type": "pong", "payload": {"authorization": "refused"}}
        auth.is_unavailable, auth.unavailable_tokens = False, {TOKEN}
        assert await renew(sock, "newer") == {"type": "pong", "payload": {"authorization": "refused"}}
        auth.unavailable_tokens = set()
        assert await renew(sock, "newer") == {"type": "pong", "payload": {"authorization": "renewed"}}


async def test_refuses_renewal_of_an_ended_session_whose_end_was_not_noticed_yet(
    temporal_address: str, services: FakeServices, silent_auth: AuthService, tmp_path: Path
) -> None:
    """No notification arrives, and the next check is seconds away."""
    silent_auth.sessions["newer"] = session("ses_" + "b" * 32)
    configured = settings(temporal_address, data_dir=tmp_path, session_check_interval_seconds=4)
    async with running_gateway(configured, services) as gateway, gateway.open(authorization()) as sock:
        await sock.execute(VIEWER_QUERY)
        await silent_auth.end()
        assert await renew(sock, "newer") == {"type": "pong", "payload": {"authorization": "refused"}}
        assert await seconds_to_end(sock) < 5


async def test_refuses_renewal_of_an_ended_session_until_it_is_restored(
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    """The socket is open only until it has received the final state of the switch that ended its session."""
    auth.sessions["newer"] = session("ses_" + "b" * 32)
    async with followed_operation(gateway, temporal_client) as (sock, script):
        before = auth.sessions[TOKEN]
        await auth.end(by=script.id)
        await asyncio.sleep(0.3)
        assert (await renew(sock, "newer"))["payload"] == {"authorization": "refused"}
        await auth.restore(TOKEN, before)
        assert (await renew(sock, "newer"))["payload"] == {"authorization": "refused"}
        await script.end()
        while (await sock.receive())["type"] != "complete":
            pass
        async with asyncio.timeout(5):
            while (await renew(sock, "newer"))["payload"] != {"authorization": "renewed"}:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


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
async def test_refuses_a_token_with_other_rights_and_keeps_the_socket_open(
    gateway: Gateway, auth: AuthService, other: Session | None
) -> None:
    if other is not None:
        auth.sessions["other"] = other
    async with gateway.open(authorization()) as sock:
        await sock.execute(VIEWER_QUERY)
        assert await renew(sock, "other") == {"type": "pong", "payload": {"authorization": "refused"}}
        assert (await sock.execute(VIEWER_QUERY))[0]["payload"]["data"]["viewer"]["user"]["id"] == ADA


async def test_anonymous_socket_gets_a_session_by_renewal(gateway: Gateway, auth: AuthService) -> None:
    async with gateway.open() as sock:
        assert (await renew(sock, TOKEN))["payload"] == {"authorization": "renewed"}
        assert (await sock.execute(VIEWER_QUERY))[0]["payload"]["data"]["viewer"]["user"]["id"] == ADA
        await auth.end()
        assert await seconds_to_end(sock) < 1
