"""Sockets whose session ends, with the real services: in one process, and in several that share a Redis."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.end_to_end.client import Client, graphql_socket
from tests.stack import Stack

UNAUTHORISED = 4401
FOLLOW = "subscription ($id: ID!) { operation(id: $id) { status } }"


@pytest.fixture(params=["dev_stack", "separate_stack"])
def stack(request: pytest.FixtureRequest) -> Stack:
    running: Stack = request.getfixturevalue(request.param)
    return running


async def subscribe(socket: ClientConnection, query: str, **variables: object) -> None:
    payload = {"query": query, "variables": variables}
    await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))


async def told(socket: ClientConnection) -> tuple[list[Any], int | None]:
    """Every message until the gateway closes the socket, and its code."""
    messages: list[Any] = []
    try:
        async with asyncio.timeout(30):
            while True:
                messages.append(json.loads(await socket.recv()))
    except ConnectionClosed as closed:
        return messages, closed.rcvd.code if closed.rcvd else None


@pytest.mark.parametrize("how", ["mutation { logout { ok } }", "revoked from elsewhere"])
async def test_a_session_that_is_ended_ends_its_socket_within_a_second(stack: Stack, how: str) -> None:
    grace, herself_elsewhere = Client(stack), Client(stack)
    await grace.log_in("grace@example.com")
    await herself_elsewhere.log_in("grace@example.com")
    session = (await grace.ask("{ viewer { session { id } } }"))["viewer"]["session"]["id"]
    async with graphql_socket(stack.websocket, grace.token) as socket:
        await subscribe(socket, "subscription { operations { id } }")
        await asyncio.sleep(0.5)
        if how.startswith("mutation"):
            await grace.ask(how)
        else:
            await herself_elsewhere.ask(
                "mutation ($id: ID!) { revokeSession(input: {sessionId: $id}) { ok } }", id=session
            )
        ended = time.monotonic()
        messages, code = await told(socket)
        assert code == UNAUTHORISED
        assert time.monotonic() - ended < 1
        assert messages == []


async def test_a_switch_ends_the_socket_it_is_followed_on_after_its_own_last_word(stack: Stack) -> None:
    ada = Client(stack)
    await ada.log_in("ada@example.com")
    there = "Globex" if await ada.current_tenant() == "Acme" else "Acme"
    there_id = await ada.tenant(there)
    async with graphql_socket(stack.websocket, ada.token) as socket:
        operation_id, token = await ada.start_switch(there_id)
        await subscribe(socket, FOLLOW, id=operation_id)
        messages, code = await told(socket)
    assert [message["type"] for message in messages[-2:]] == ["next", "complete"]
    assert messages[-2]["payload"]["data"]["operation"]["status"] == "COMPLETED"
    assert code == UNAUTHORISED
    assert await Client(stack, token).current_tenant() == there
