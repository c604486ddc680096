"""GraphQL over websockets on a gateway as in production: authentication, errors, limits and closing."""

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
from tests.gateway.fakes import ADA, GLOBEX, TOKEN, FakeServices, error_extensions, settings
from tests.gateway.live_gateway import FOLLOW, VIEWER_QUERY, Gateway, running_gateway, wait_until


@pytest.fixture
def change_notifier() -> ChangeNotifier:
    """A change notifier within this process."""
    return LocalNotifier()


@pytest.fixture
async def gateway(
    temporal_address: str, services: FakeServices, cache: Cache, change_notifier: ChangeNotifier, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """A running gateway with default limits."""
    configured = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(configured, services, cache=cache, change_notifier=change_notifier) as gateway:
        yield gateway


def error_codes(messages: list[Any]) -> list[str]:
    """Return the error codes of the first message that is not ``complete``."""
    received = next(message for message in messages if message["type"] != "complete")
    errors = received["payload"] if received["type"] == "error" else received["payload"]["errors"]
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
async def test_socket_authenticates_by_payload_header_or_cookie(
    gateway: Gateway, payload: dict[str, Any], headers: dict[str, str]
) -> None:
    async with gateway.open(payload, headers=headers) as sock:
        response, complete = await sock.execute(VIEWER_QUERY)
    assert response["payload"]["data"] == {"viewer": {"user": {"id": ADA}}}
    assert complete["type"] == "complete"


async def test_loads_data_again_for_each_operation_of_a_socket(gateway: Gateway, services: FakeServices) -> None:
    async with gateway.open({"authorization": TOKEN}) as sock:
        await sock.execute("{ viewer { sessions { id } } }")
        await sock.execute("{ viewer { sessions { id } } }")
    assert len(services.requests_to("auth/list_sessions")) == 2


async def test_does_not_compress_sockets(gateway: Gateway) -> None:
    async with gateway.open(compression="deflate") as sock:
        assert sock.connection.protocol.extensions == []


async def test_refuses_a_socket_from_a_page_of_another_origin(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus):
        async with gateway.open(headers={"origin": "https://evil.example", "cookie": f"{COOKIE}={TOKEN}"}):
            pass


async def test_subscriber_receives_the_current_and_each_newer_state_until_the_end(
    gateway: Gateway, temporal_client: Client
) -> None:
    async with gateway.open({"authorization": TOKEN}) as sock:
        started = await sock.start_switch(GLOBEX)
        await sock.subscribe(FOLLOW, id=started["id"])
        assert (await sock.receive())["payload"]["data"]["operation"] == {**started, "status": "RUNNING"}
        await sock.subscribe(FOLLOW, id=started["id"], after=started["cursor"])
        await temporal_client.get_workflow_handle(started["id"]).terminate()
        received = [await sock.receive() for _ in range(4)]
    assert sorted(message["type"] for message in received) == ["complete", "complete", "next", "next"]
    states = [message["payload"]["data"]["operation"]["status"] for message in received if message["type"] == "next"]
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
async def test_sends_an_error_instead_of_only_complete_when_a_stream_fails(
    gateway: Gateway, query: str, variables: dict[str, object], code: str
) -> None:
    async with gateway.open({"authorization": TOKEN}) as sock:
        assert error_codes(await sock.execute(query, **variables)) == [code]
        assert (await sock.execute(VIEWER_QUERY))[0]["payload"]["data"]["viewer"] is not None, "the socket stays open"


async def test_anonymous_socket_follows_no_operation_except_a_login(gateway: Gateway) -> None:
    async with gateway.open() as sock:
        assert error_codes(await sock.execute(FOLLOW, id="tenant-switch-" + "f" * 32)) == ["UNAUTHENTICATED"]


async def test_unexpected_error_in_a_stream_reveals_no_details(gateway: Gateway, services: FakeServices) -> None:
    def fail(caller: object, body: object) -> None:
        raise ZeroDivisionError("the database is at 10.0.0.7")

    async with gateway.open({"authorization": TOKEN}) as sock:
        services.handlers["users/get_users"] = fail
        messages = await sock.execute(VIEWER_QUERY)
    assert error_codes(messages) == ["INTERNAL"]
    assert "10.0.0.7" not in json.dumps(messages)


@pytest.mark.parametrize(
    "frame", [b"\x00", "nope", "[]", '{"type": 5}', '{"type": "subscribe", "id": "1"}', "[" * 9999]
)
async def test_malformed_message_closes_the_socket(gateway: Gateway, frame: bytes | str) -> None:
    async with gateway.open() as sock:
        await sock.connection.send(frame)
        assert await sock.wait_for_close() == 4400


@asynccontextmanager
async def gateway_with_limits(
    temporal_address: str, services: FakeServices, folder: Path, **limits: float
) -> AsyncIterator[Gateway]:
    """Run a gateway with these limits."""
    configured = settings(temporal_address, data_dir=folder, **limits)
    async with running_gateway(configured, services, change_notifier=LocalNotifier()) as gateway:
        yield gateway


async def test_refuses_one_operation_too_many_and_continues_the_others(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    async with (
        gateway_with_limits(temporal_address, services, tmp_path, max_operations_per_socket=2) as gateway,
        gateway.open({"authorization": TOKEN}) as sock,
    ):
        started = await sock.start_switch(GLOBEX)
        for _ in range(2):
            await sock.subscribe(FOLLOW, id=started["id"])
            assert (await sock.receive())["type"] == "next"
        [refused] = await sock.execute(VIEWER_QUERY)
        assert refused["type"] == "error"
        assert error_extensions(refused["payload"][0]) == {"code": "RATE_LIMITED", "retryAfter": 1}
        await sock.send({"type": "ping"})
        assert (await sock.receive())["type"] == "pong", "other operations continue"


async def test_closes_a_socket_with_too_many_messages_except_pongs(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    limits = {"socket_messages_per_minute": 5, "ping_interval_seconds": 0.1}
    async with gateway_with_limits(temporal_address, services, tmp_path, **limits) as gateway:
        async with gateway.open() as sock:
            for _ in range(8):
                assert (await sock.receive()) == {"type": "ping"}
                await sock.send({"type": "pong"})
        async with gateway.open() as sock:
            for _ in range(6):
                await sock.send({"type": "pong", "payload": {"nobody": "asked"}})
            assert await sock.wait_for_close() == 4429


async def test_limits_sockets_per_address_and_user_and_frees_closed_ones(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    limits = {"max_sockets_per_user": 2, "max_sockets_per_address": 4}
    async with (
        gateway_with_limits(temporal_address, services, tmp_path, **limits) as gateway,
        AsyncExitStack() as stack,
    ):
        for _ in range(2):
            await stack.enter_async_context(gateway.open({"authorization": TOKEN}))
        async with gateway.open({"authorization": TOKEN}) as third_of_ada:
            assert await third_of_ada.wait_for_close() == 4429
        for _ in range(2):
            await stack.enter_async_context(gateway.open())
        async with connect(gateway.url, subprotocols=[Subprotocol("graphql-transport-ws")]) as fifth:
            with pytest.raises(ConnectionClosed) as closed:
                await fifth.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4429
        await stack.aclose()
        await wait_until(lambda: len(gateway.app.streams) == 0)
        again = [await stack.enter_async_context(gateway.open({"authorization": TOKEN})) for _ in range(2)]
        async with gateway.open({"authorization": TOKEN}) as third_of_ada:
            assert await third_of_ada.wait_for_close() == 4429
        for sock in again:
            assert (await sock.execute(VIEWER_QUERY))[0]["type"] == "next"
        for _ in range(2):
            anonymous = await stack.enter_async_context(gateway.open())
            assert (await anonymous.execute(VIEWER_QUERY))[0]["type"] == "next"


async def test_socket_takes_one_slot_of_its_user_for_any_number_of_operations(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    async with (
        gateway_with_limits(temporal_address, services, tmp_path, max_sockets_per_user=2) as gateway,
        gateway.open({"authorization": TOKEN}) as one,
        gateway.open({"authorization": TOKEN}) as other,
    ):
        for _ in range(3):
            assert (await one.execute(VIEWER_QUERY))[0]["type"] == "next"
        for sock in (other, one):
            await sock.send({"type": "ping", "payload": {"authorization": TOKEN}})
            assert (await sock.receive()) == {"type": "pong", "payload": {"authorization": "renewed"}}
            assert (await sock.execute(VIEWER_QUERY))[0]["type"] == "next"


async def test_event_stream_takes_a_slot_of_its_address(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    async with (
        gateway_with_limits(temporal_address, services, tmp_path, max_sockets_per_address=1) as gateway,
        gateway.open({"authorization": TOKEN}),
        httpx.AsyncClient() as client,
    ):
        headers = {"accept": "text/event-stream", "authorization": f"Bearer {TOKEN}"}
        body = {"query": FOLLOW, "variables": {"id": "tenant-switch-" + "f" * 32}}
        response = await client.post(f"{gateway.http}/graphql", json=body, headers=headers)
        assert response.status_code == 429
        assert response.json()["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
        assert int(response.headers["retry-after"]) > 0


async def test_event_stream_frees_its_slot_when_it_completes_or_its_client_disconnects(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    headers = {"accept": "text/event-stream", "authorization": f"Bearer {TOKEN}"}
    feed = {"query": "subscription { operations { id } }"}
    not_found_request = {"query": FOLLOW, "variables": {"id": "tenant-switch-" + "f" * 32}}
    async with (
        gateway_with_limits(temporal_address, services, tmp_path, max_sockets_per_address=1) as gateway,
        httpx.AsyncClient(headers=headers, timeout=15) as client,
    ):
        url = f"{gateway.http}/graphql"
        for _ in range(2):
            response = await client.post(url, json=not_found_request)
            assert (response.status_code, "NOT_FOUND" in response.text) == (200, True)
            async with client.stream("POST", url, json=feed) as stream:
                assert stream.status_code == 200
                assert (await client.post(url, json=not_found_request)).status_code == 429
            await wait_until(lambda: len(gateway.app.streams) == 0)


async def test_closes_a_socket_without_connection_init(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    async with (
        gateway_with_limits(temporal_address, services, tmp_path, connection_init_timeout_seconds=0.5) as gateway,
        connect(gateway.url, subprotocols=[Subprotocol("graphql-transport-ws")]) as silent,
        gateway.open() as introduced,
    ):
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(silent.recv(), 10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4408
        await wait_until(lambda: len(gateway.app.streams) == 1)
        assert (await introduced.execute("{ __typename }"))[0]["type"] == "next"


async def test_default_socket_limits() -> None:
    limits = SocketLimits()
    assert (limits.init_timeout_seconds, limits.messages_per_minute, limits.max_operations) == (10, 100, 50)
    assert (limits.max_per_user, limits.max_per_address) == (100, 1_000)
