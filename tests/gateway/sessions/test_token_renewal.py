"""A ping with a token renews the token of its socket if both open sessions that grant the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from temporalio.client import Client
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from contracts.auth import Role, Session
from tests.gateway.fakes import ADA, GLOBEX, GRACE, TOKEN, Services, session, settings
from tests.gateway.live_gateway import WHO, Gateway, Socket, introduction, running_gateway
from tests.gateway.sessions.auth_service import AuthService
from tests.gateway.sessions.streams import FEED, followed_operation, renew, seconds_to_end

PROTOCOL = Subprotocol("graphql-transport-ws")


async def test_a_burst_of_introduction_subscription_and_another_users_token_renews_nothing(
    gateway: Gateway, auth: AuthService
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


async def test_nothing_is_renewed_while_the_auth_service_does_not_know_the_session_to_replace(
    gateway: Gateway, auth: AuthService
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
    temporal_address: str, services: Services, silent_auth: AuthService, tmp_path: Path
) -> None:
    """No notification arrives, and the next check is far away."""
    silent_auth.sessions["newer"] = session("ses_" + "b" * 32)
    known = settings(temporal_address, data_dir=tmp_path, session_check_interval_seconds=4)
    async with running_gateway(known, services) as gateway, gateway.open(introduction()) as sock:
        await sock.ask(WHO)
        await silent_auth.end()
        assert await renew(sock, "newer") == {"type": "pong", "payload": {"authorization": "refused"}}
        assert await seconds_to_end(sock) < 5


async def test_a_socket_whose_session_has_ended_takes_no_renewal_until_the_session_is_back(
    gateway: Gateway, auth: AuthService, temporal_client: Client
) -> None:
    """It is open only until it has received the end of the switch that ended its session."""
    auth.sessions["newer"] = session("ses_" + "b" * 32)
    async with followed_operation(gateway, temporal_client) as (sock, script):
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
    gateway: Gateway, auth: AuthService, other: Session | None
) -> None:
    if other is not None:
        auth.sessions["other"] = other
    async with gateway.open(introduction()) as sock:
        await sock.ask(WHO)
        assert await renew(sock, "other") == {"type": "pong", "payload": {"authorization": "refused"}}
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"]["user"]["id"] == ADA


async def test_a_socket_without_a_session_gets_one_by_renewal(gateway: Gateway, auth: AuthService) -> None:
    async with gateway.open() as sock:
        assert (await renew(sock, TOKEN))["payload"] == {"authorization": "renewed"}
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"]["user"]["id"] == ADA
        await auth.end()
        assert await seconds_to_end(sock) < 1
