"""GraphQL over websockets, served as in production: who speaks, what goes wrong, and how a socket ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gateway.sessions.cookies import COOKIE
from gateway.websocket.websocket_limits import SocketLimits
from infrastructure.caching.cache import Cache
from infrastructure.change_notifications import ChangeNotifier, LocalNotifier
from tests.gateway.fakes import ADA, GLOBEX, TOKEN, Services, facts, settings
from tests.gateway.live_gateway import FOLLOW, WHO, Gateway, running_gateway, until


@pytest.fixture
def change_notifier() -> ChangeNotifier:
    return LocalNotifier()


@pytest.fixture
async def gateway(
    temporal_address: str, services: Services, cache: Cache, change_notifier: ChangeNotifier, tmp_path: Path
) -> AsyncIterator[Gateway]:
    known = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(known, services, cache=cache, change_notifier=change_notifier) as gateway:
        yield gateway


def codes(messages: list[Any]) -> list[str]:
    """The codes of the errors in the last message but a complete."""
    told = next(message for message in messages if message["type"] != "complete")
    errors = told["payload"] if told["type"] == "error" else told["payload"]["errors"]
    return [error["extensions"]["code"] for error in errors]


@pytest.mark.parametrize(
    ("payload", "headers"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, {}),
        ({"Authorization": TOKEN}, {}),
        ({}, {"cookie": f"{COOKIE}={TOKEN}"}),
        (None, {"authorization": f"Bearer {TOKEN}"}),
        ({"authorization": TOKEN}, {"cookie": f"{COOKIE}=another"}),
    ],
)
async def test_a_socket_says_who_speaks(gateway: Gateway, payload: dict[str, Any], headers: dict[str, str]) -> None:
    async with gateway.open(payload, headers=headers) as sock:
        answer, complete = await sock.ask(WHO)
    assert answer["payload"]["data"] == {"viewer": {"user": {"id": ADA}}}
    assert complete["type"] == "complete"


async def test_what_a_socket_shows_is_loaded_anew_each_time(gateway: Gateway, services: Services) -> None:
    async with gateway.open({"authorization": TOKEN}) as sock:
        await sock.ask("{ viewer { sessions { id } } }")
        await sock.ask("{ viewer { sessions { id } } }")
    assert len(services.asked("auth/list_sessions")) == 2


async def test_no_socket_is_compressed(gateway: Gateway) -> None:
    async with gateway.open(compression="deflate") as sock:
        assert sock.connection.protocol.extensions == []


async def test_a_page_of_another_origin_cannot_open_a_socket(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus):
        async with gateway.open(headers={"origin": "https://evil.example", "cookie": f"{COOKIE}={TOKEN}"}):
            pass


async def test_a_follower_is_told_the_state_now_and_each_newer_one_to_the_end(
    gateway: Gateway, temporal_client: Client
) -> None:
    async with gateway.open({"authorization": TOKEN}) as sock:
        started = await sock.start_switch(GLOBEX)
        await sock.subscribe(FOLLOW, id=started["id"])
        assert (await sock.next())["payload"]["data"]["operation"] == {**started, "status": "RUNNING"}
        await sock.subscribe(FOLLOW, id=started["id"], after=started["cursor"])
        await temporal_client.get_workflow_handle(started["id"]).terminate()
        told = [await sock.next() for _ in range(4)]
    assert sorted(message["type"] for message in told) == ["complete", "complete", "next", "next"]
    states = [message["payload"]["data"]["operation"]["status"] for message in told if message["type"] == "next"]
    assert states == ["FAILED", "FAILED"]


@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        ("subscription {", {}, "BAD_USER_INPUT"),
        ("subscription { nope }", {}, "BAD_USER_INPUT"),
        ("", {}, "BAD_USER_INPUT"),
        (FOLLOW, {}, "BAD_USER_INPUT"),
        (FOLLOW, {"id": "x" * 300}, "BAD_USER_INPUT"),
        (FOLLOW, {"id": "tenant-switch-" + "f" * 32, "after": "forged"}, "BAD_USER_INPUT"),
        (FOLLOW, {"id": "x"}, "NOT_FOUND"),
        (FOLLOW, {"id": "tenant-switch-" + "f" * 32}, "NOT_FOUND"),
    ],
)
async def test_what_goes_wrong_in_a_stream_is_told_and_never_a_bare_complete(
    gateway: Gateway, query: str, variables: dict[str, object], code: str
) -> None:
    async with gateway.open({"authorization": TOKEN}) as sock:
        assert codes(await sock.ask(query, **variables)) == [code]
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"] is not None, "the socket goes on"


async def test_nobody_follows_what_is_not_a_login(gateway: Gateway) -> None:
    async with gateway.open() as sock:
        assert codes(await sock.ask(FOLLOW, id="tenant-switch-" + "f" * 32)) == ["UNAUTHENTICATED"]


async def test_trouble_in_a_stream_tells_nothing(gateway: Gateway, services: Services) -> None:
    def trouble(caller: object, body: object) -> None:
        raise ZeroDivisionError("the database is at 10.0.0.7")

    async with gateway.open({"authorization": TOKEN}) as sock:
        services.handlers["users/get_users"] = trouble
        messages = await sock.ask(WHO)
    assert codes(messages) == ["INTERNAL"]
    assert "10.0.0.7" not in json.dumps(messages)


@pytest.mark.parametrize(
    "frame", [b"\x00", "nope", "[]", '{"type": 5}', '{"type": "subscribe", "id": "1"}', "[" * 9999]
)
async def test_a_frame_that_is_none_closes_the_socket(gateway: Gateway, frame: bytes | str) -> None:
    async with gateway.open() as sock:
        await sock.connection.send(frame)
        assert await sock.end() == 4400


@asynccontextmanager
async def limited(temporal_address: str, services: Services, folder: Path, **limits: float) -> AsyncIterator[Gateway]:
    known = settings(temporal_address, data_dir=folder, **limits)
    async with running_gateway(known, services, change_notifier=LocalNotifier()) as gateway:
        yield gateway


async def test_one_operation_too_many_is_told_so_and_the_others_go_on(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    async with (
        limited(temporal_address, services, tmp_path, max_operations_per_socket=2) as gateway,
        gateway.open({"authorization": TOKEN}) as sock,
    ):
        started = await sock.start_switch(GLOBEX)
        for _ in range(2):
            await sock.subscribe(FOLLOW, id=started["id"])
            assert (await sock.next())["type"] == "next"
        [refused] = await sock.ask(WHO)
        assert refused["type"] == "error"
        assert facts(refused["payload"][0]) == {"code": "RATE_LIMITED", "retryAfter": 1}
        await sock.say({"type": "ping"})
        assert (await sock.next())["type"] == "pong", "nothing else ended"


async def test_a_chatterbox_is_closed_and_who_only_answers_pings_is_not(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    limits = {"socket_messages_per_minute": 5, "ping_interval_seconds": 0.1}
    async with limited(temporal_address, services, tmp_path, **limits) as gateway:
        async with gateway.open() as sock:
            for _ in range(8):
                assert (await sock.next()) == {"type": "ping"}
                await sock.say({"type": "pong"})
        async with gateway.open() as sock:
            for _ in range(6):
                await sock.say({"type": "pong", "payload": {"nobody": "asked"}})
            assert await sock.end() == 4429


async def test_one_address_and_one_user_have_so_many_sockets_and_get_them_back(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    limits = {"max_sockets_per_user": 2, "max_sockets_per_address": 4}
    async with limited(temporal_address, services, tmp_path, **limits) as gateway, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(gateway.open({"authorization": TOKEN}))
        async with gateway.open({"authorization": TOKEN}) as third_of_ada:
            assert await third_of_ada.end() == 4429
        for _ in range(2):
            await stack.enter_async_context(gateway.open())
        async with connect(gateway.url, subprotocols=[Subprotocol("graphql-transport-ws")]) as fifth:
            with pytest.raises(ConnectionClosed) as closed:
                await fifth.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4429
        await stack.aclose()
        await until(lambda: len(gateway.app.streams) == 0)
        again = [await stack.enter_async_context(gateway.open({"authorization": TOKEN})) for _ in range(2)]
        async with gateway.open({"authorization": TOKEN}) as third_of_ada:
            assert await third_of_ada.end() == 4429
        for sock in again:
            assert (await sock.ask(WHO))[0]["type"] == "next"
        for _ in range(2):
            anonymous = await stack.enter_async_context(gateway.open())
            assert (await anonymous.ask(WHO))[0]["type"] == "next"


async def test_a_socket_takes_one_place_of_its_user_however_much_it_asks(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    async with (
        limited(temporal_address, services, tmp_path, max_sockets_per_user=2) as gateway,
        gateway.open({"authorization": TOKEN}) as one,
        gateway.open({"authorization": TOKEN}) as other,
    ):
        for _ in range(3):
            assert (await one.ask(WHO))[0]["type"] == "next"
        for sock in (other, one):
            await sock.say({"type": "ping", "payload": {"authorization": TOKEN}})
            assert (await sock.next()) == {"type": "pong", "payload": {"authorization": "renewed"}}
            assert (await sock.ask(WHO))[0]["type"] == "next"


async def test_an_event_stream_takes_a_place_of_its_address(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    async with (
        limited(temporal_address, services, tmp_path, max_sockets_per_address=1) as gateway,
        gateway.open({"authorization": TOKEN}),
        httpx.AsyncClient() as client,
    ):
        headers = {"accept": "text/event-stream", "authorization": f"Bearer {TOKEN}"}
        body = {"query": FOLLOW, "variables": {"id": "tenant-switch-" + "f" * 32}}
        answer = await client.post(f"{gateway.http}/graphql", json=body, headers=headers)
        assert answer.status_code == 429
        assert answer.json()["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
        assert int(answer.headers["retry-after"]) > 0


async def test_an_event_stream_gives_its_place_back_as_it_completes_and_as_its_client_leaves(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    headers = {"accept": "text/event-stream", "authorization": f"Bearer {TOKEN}"}
    feed = {"query": "subscription { operations { id } }"}
    gone = {"query": FOLLOW, "variables": {"id": "tenant-switch-" + "f" * 32}}
    async with (
        limited(temporal_address, services, tmp_path, max_sockets_per_address=1) as gateway,
        httpx.AsyncClient(headers=headers, timeout=15) as client,
    ):
        url = f"{gateway.http}/graphql"
        for _ in range(2):
            answer = await client.post(url, json=gone)
            assert (answer.status_code, "NOT_FOUND" in answer.text) == (200, True)
            async with client.stream("POST", url, json=feed) as stream:
                assert stream.status_code == 200
                assert (await client.post(url, json=gone)).status_code == 429
            await until(lambda: len(gateway.app.streams) == 0)


async def test_a_socket_that_does_not_introduce_itself_is_closed(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    async with (
        limited(temporal_address, services, tmp_path, connection_init_timeout_seconds=0.5) as gateway,
        connect(gateway.url, subprotocols=[Subprotocol("graphql-transport-ws")]) as silent,
        gateway.open() as introduced,
    ):
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(silent.recv(), 10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4408
        await until(lambda: len(gateway.app.streams) == 1)
        assert (await introduced.ask("{ __typename }"))[0]["type"] == "next"


async def test_so_much_is_allowed_as_shipped() -> None:
    limits = SocketLimits()
    assert (limits.init_timeout_seconds, limits.messages_per_minute, limits.max_operations) == (10, 100, 50)
    assert (limits.max_per_user, limits.max_per_address) == (100, 1_000)
