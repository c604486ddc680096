"""Common GraphQL clients each follow a tenant switch to its end over a socket that is cut once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from gql import Client as Gql
from gql import GraphQLRequest
from gql.transport.exceptions import TransportConnectionFailed
from gql.transport.websockets import WebsocketsTransport

from infrastructure.signing.secret_keys import SecretKeys
from resolvers.operations.cursors import Cursors
from tests.clients.balancer import Balancer
from tests.clients.npm import node_output
from tests.end_to_end.client import OPERATION, Client, Json
from tests.stack import Stack

CLIENT_NAME = "ada"
"""The name by which the balancer identifies the client."""


@asynccontextmanager
async def blocked_switch(stack: Stack, ada: Client) -> AsyncIterator[tuple[str, asyncpg.Connection]]:
    """Start a tenant switch of Ada whose third step waits for a lock; yield its id and the connection with the lock."""
    current = await ada.current_tenant()
    other = await ada.tenant_id("Globex" if current == "Acme" else "Acme")
    database = await asyncpg.connect(stack.environment["DATABASE_URL"])
    try:
        await database.execute("BEGIN")
        await database.execute("LOCK TABLE users_user IN EXCLUSIVE MODE")
        operation_id, _ = await ada.start_switch(other)
        yield operation_id, database
    finally:
        await database.close()


async def release(database: asyncpg.Connection) -> None:
    """Release the lock after the client has subscribed, because a socket without a stream ends with its session."""
    await asyncio.sleep(1)
    await database.execute("ROLLBACK")


@pytest.fixture
async def ada(separate_stack: Stack) -> Client:
    """A client that is signed in as Ada."""
    ada = Client(separate_stack)
    await ada.log_in("ada@example.com")
    return ada


@pytest.fixture
async def balancer(separate_stack: Stack) -> AsyncIterator[Balancer]:
    """A load balancer in front of the gateway."""
    port = urlsplit(separate_stack.url).port
    assert port is not None
    async with Balancer([port]) as balancer:
        yield balancer


def check_that_states_are_newer(stack: Stack, states: list[Json]) -> None:
    """Check that each state is newer than the one before."""
    cursors = Cursors(SecretKeys(stack.environment["SECRET_KEY"].encode()))
    positions = [cursors.decode(state["id"], state["cursor"]).as_tuple() for state in states]
    assert positions == sorted(set(positions)), [state["progress"] for state in states]


@pytest.mark.parametrize("client", ["graphql-ws", "apollo", "urql"])
async def test_javascript_client_resumes_after_its_socket_was_cut(
    client: str, node_clients: Path, separate_stack: Stack, ada: Client, balancer: Balancer, tmp_path: Path
) -> None:
    states: list[Json] = []
    connections = 0
    released: asyncio.Task[None] | None = None
    last: list[Any] = []
    async with blocked_switch(separate_stack, ada) as (operation_id, database), asyncio.timeout(60):
        config = {
            "graphql": separate_stack.graphql,
            "websocket": f"ws://{balancer.address}/graphql?client={CLIENT_NAME}",
            "token": ada.token,
            "operation": operation_id,
            "seconds": 50,
        }
        async with node_output(node_clients / "follow.mjs", client, json.dumps(config), log=tmp_path / "log") as lines:
            async for line in lines:
                last = [*last, line][-2:]
                assert "failed" not in line, line
                connections += "open" in line
                if "state" in line:
                    states.append(line["state"])
                    if connections == 1 and line["state"]["progress"]["currentStep"] == "set_tenant":
                        assert balancer.cut(CLIENT_NAME)
                if connections == 2 and released is None:
                    released = asyncio.create_task(release(database))
        assert released is not None
        await released
    assert connections == 2, (tmp_path / "log").read_text()
    check_that_states_are_newer(separate_stack, states)
    assert states[-1]["status"] == "COMPLETED"
    assert last[-1] == {"complete": True}
    if client != "graphql-ws":  # a query shows the same state because the caches identify the operation by its id
        assert last[0]["cached"] == states[-1]


async def test_gql_client_resumes_after_its_socket_was_cut(
    separate_stack: Stack, ada: Client, balancer: Balancer
) -> None:
    document = "subscription ($id: ID!, $after: String) { operation(id: $id, after: $after) { ...State } }"
    states: list[Json] = []
    connections = 0
    released: asyncio.Task[None] | None = None
    async with blocked_switch(separate_stack, ada) as (operation_id, database), asyncio.timeout(60):
        while not states or states[-1]["status"] != "COMPLETED":
            transport = WebsocketsTransport(
                url=f"ws://{balancer.address}/graphql?client={CLIENT_NAME}",
                init_payload={"authorization": f"Bearer {ada.token}"},
            )
            variables = {"id": operation_id} | ({"after": states[-1]["cursor"]} if states else {})
            request = GraphQLRequest(OPERATION + document, variable_values=variables)
            with suppress(TransportConnectionFailed):
                async with Gql(transport=transport, fetch_schema_from_transport=False) as session:
                    connections += 1
                    if connections == 2:
                        released = asyncio.create_task(release(database))
                    async for result in session.subscribe(request):
                        states.append(result["operation"])
                        if connections == 1 and result["operation"]["progress"]["currentStep"] == "set_tenant":
                            assert balancer.cut(CLIENT_NAME)
        assert released is not None
        await released
    assert connections == 2
    check_that_states_are_newer(separate_stack, states)
