"""Sockets close with their session, with the real services in one process and in processes that share Redis."""

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

CLOSE_UNAUTHORIZED = 4401
FOLLOW = "subscription ($id: ID!) { operation(id: $id) { status } }"


@pytest.fixture(params=["dev_stack", "separate_stack"])
def stack(request: pytest.FixtureRequest) -> Stack:
    """The development stack, and one of separate processes."""
    running: Stack = request.getfixturevalue(request.param)
    return running


async def subscribe(socket: ClientConnection, query: str, **variables: object) -> None:
    """Subscribe with the operation id "1"."""
    payload = {"query": query, "variables": variables}
    await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))


async def read_until_closed(socket: ClientConnection) -> tuple[list[Any], int | None]:
    """Return all messages until the gateway closes the socket, and the close code."""
    messages: list[Any] = []
    try:
        async with asyncio.timeout(30):
            while True:
                messages.append(json.loads(await socket.recv()))
    except ConnectionClosed as closed:
        return messages, closed.rcvd.code if closed.rcvd else None


@pytest.mark.parametrize("ending", ["mutation { logout { ok } }", "revoked from elsewhere"])
async def test_socket_closes_within_a_second_of_the_end_of_its_session(stack: Stack, ending: str) -> None:
    grace, other_session = Client(stack), Client(stack)
    await grace.log_in("grace@example.com")
    await other_session.log_in("grace@example.com")
    session = (await grace.execute("{ viewer { session { id } } }"))["viewer"]["session"]["id"]
    async with graphql_socket(stack.websocket, grace.token) as socket:
        await subscribe(socket, "subscription { operations { id } }")
        await asyncio.sleep(0.5)
        if ending.startswith("mutation"):
            await grace.execute(ending)
        else:
            await other_session.execute(
                "mutation ($id: ID!) { revokeSession(input: {sessionId: $id}) { ok } }", id=session
            )
        ended = time.monotonic()
        messages, code = await read_until_closed(socket)
        assert code == CLOSE_UNAUTHORIZED
        assert time.monotonic() - ended < 1
        assert messages == []


async def test_socket_receives_the_final_state_of_its_switch_before_it_closes(stack: Stack) -> None:
    ada = Client(stack)
    await ada.log_in("ada@example.com")
    other_tenant = "Globex" if await ada.current_tenant() == "Acme" else "Acme"
    other_tenant_id = await ada.tenant_id(other_tenant)
    async with graphql_socket(stack.websocket, ada.token) as socket:
        operation_id, token = await ada.start_switch(other_tenant_id)
        await subscribe(socket, FOLLOW, id=operation_id)
        messages, code = await read_until_closed(socket)
    assert [message["type"] for message in messages[-2:]] == ["next", "complete"]
    assert messages[-2]["payload"]["data"]["operation"]["status"] == "COMPLETED"
    assert code == CLOSE_UNAUTHORIZED
    assert await Client(stack, token).current_tenant() == other_tenant
