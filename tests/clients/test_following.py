"""The clients that frontends really use, each following a tenant switch to its end over a socket that is cut."""

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
from tests.clients.npm import said_by
from tests.end_to_end.client import OPERATION, Client, Json
from tests.stack import Stack

NAME = "ada"
"""By which the balancer knows the client."""


@asynccontextmanager
async def switch_that_stands_still(stack: Stack, ada: Client) -> AsyncIterator[tuple[str, asyncpg.Connection]]:
    """A switch of Ada's, and the connection whose lock keeps it from its third step."""
    here = await ada.current_tenant()
    there = await ada.tenant("Globex" if here == "Acme" else "Acme")
    database = await asyncpg.connect(stack.environment["DATABASE_URL"])
    try:
        await database.execute("BEGIN")
        await database.execute("LOCK TABLE users_user IN EXCLUSIVE MODE")
        operation_id, _ = await ada.start_switch(there)
        yield operation_id, database
    finally:
        await database.close()


async def release(database: asyncpg.Connection) -> None:
    """Let the switch go on once the client has subscribed; a socket without a stream ends with the session at once."""
    await asyncio.sleep(1)
    await database.execute("ROLLBACK")


@pytest.fixture
async def ada(separate_stack: Stack) -> Client:
    ada = Client(separate_stack)
    await ada.log_in("ada@example.com")
    return ada


@pytest.fixture
async def balancer(separate_stack: Stack) -> AsyncIterator[Balancer]:
    port = urlsplit(separate_stack.url).port
    assert port is not None
    async with Balancer([port]) as balancer:
        yield balancer


def strictly_newer(stack: Stack, states: list[Json]) -> None:
    cursors = Cursors(SecretKeys(stack.environment["SECRET_KEY"].encode()))
    seen = [cursors.read(state["id"], state["cursor"]).as_tuple() for state in states]
    assert seen == sorted(set(seen)), [state["progress"] for state in states]


@pytest.mark.parametrize("client", ["graphql-ws", "apollo", "urql"])
async def test_a_javascript_client_whose_socket_is_cut_resumes_and_sees_the_end(
    client: str, node_clients: Path, separate_stack: Stack, ada: Client, balancer: Balancer, tmp_path: Path
) -> None:
    states: list[Json] = []
    opened = 0
    released: asyncio.Task[None] | None = None
    last: list[Any] = []
    async with switch_that_stands_still(separate_stack, ada) as (operation_id, database), asyncio.timeout(60):
        config = {
            "graphql": separate_stack.graphql,
            "websocket": f"ws://{balancer.address}/graphql?client={NAME}",
            "token": ada.token,
            "operation": operation_id,
            "seconds": 50,
        }
        async with said_by(node_clients / "follow.mjs", client, json.dumps(config), log=tmp_path / "log") as lines:
            async for line in lines:
                last = [*last, line][-2:]
                assert "failed" not in line, line
                opened += "open" in line
                if "state" in line:
                    states.append(line["state"])
                    if opened == 1 and line["state"]["progress"]["currentStep"] == "set_tenant":
                        assert balancer.cut(NAME)
                if opened == 2 and released is None:
                    released = asyncio.create_task(release(database))
        assert released is not None
        await released
    assert opened == 2, (tmp_path / "log").read_text()
    strictly_newer(separate_stack, states)
    assert states[-1]["status"] == "COMPLETED"
    assert last[-1] == {"complete": True}
    if client != "graphql-ws":  # a query beside it shows the same: their caches know the operation by its id
        assert last[0]["cached"] == states[-1]


async def test_the_gql_client_whose_socket_is_cut_resumes_and_sees_the_end(
    separate_stack: Stack, ada: Client, balancer: Balancer
) -> None:
    document = "subscription ($id: ID!, $after: String) { operation(id: $id, after: $after) { ...State } }"
    states: list[Json] = []
    opened = 0
    released: asyncio.Task[None] | None = None
    async with switch_that_stands_still(separate_stack, ada) as (operation_id, database), asyncio.timeout(60):
        while not states or states[-1]["status"] != "COMPLETED":
            transport = WebsocketsTransport(
                url=f"ws://{balancer.address}/graphql?client={NAME}",
                init_payload={"authorization": f"Bearer {ada.token}"},
            )
            variables = {"id": operation_id} | ({"after": states[-1]["cursor"]} if states else {})
            request = GraphQLRequest(OPERATION + document, variable_values=variables)
            with suppress(TransportConnectionFailed):
                async with Gql(transport=transport, fetch_schema_from_transport=False) as session:
                    opened += 1
                    if opened == 2:
                        released = asyncio.create_task(release(database))
                    async for result in session.subscribe(request):
                        states.append(result["operation"])
                        if opened == 1 and result["operation"]["progress"]["currentStep"] == "set_tenant":
                            assert balancer.cut(NAME)
        assert released is not None
        await released
    assert opened == 2
    strictly_newer(separate_stack, states)
