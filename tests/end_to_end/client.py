"""A client of the API without any code of the product: JSON over HTTP, and graphql-transport-ws."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any, cast

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.gateway.fakes import error_extensions
from tests.stack import Stack

Json = dict[str, Any]
"""A JSON object of a response; its shape follows from the document of the test."""

PASSWORD = "adx-demo-password"

OPERATION = """
fragment State on Operation {
  id status cursor progress { currentStep fraction steps { name status attempt fraction lastError } }
  error { code message compensated }
}
"""


@asynccontextmanager
async def graphql_socket(
    url: str, token: str | None = None, *, headers: Mapping[str, str] | None = None
) -> AsyncIterator[ClientConnection]:
    """Open a websocket whose ``connection_init`` carries the token, and wait until the gateway accepts it."""
    protocols = [Subprotocol("graphql-transport-ws")]
    async with connect(url, subprotocols=protocols, additional_headers=headers, proxy=None) as socket:
        payload = {"authorization": f"Bearer {token}"} if token else {}
        await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        yield socket


class Client:
    """A client of one user that uses the gateways in turn; ``token`` is its session token after the sign-in."""

    def __init__(self, stack: Stack, token: str | None = None) -> None:
        self._gateways = cycle(stack.urls or [stack.url])
        self.token = token

    async def execute(self, document: str, **variables: object) -> Json:
        """Execute a document and return its data; raise AssertionError if the response has errors."""
        body = await self.execute_unchecked(document, **variables)
        assert "errors" not in body, body
        return cast("Json", body["data"])

    async def error_of(self, document: str, **variables: object) -> Json:
        """Execute a document that must fail with exactly one error; return the extensions of the error."""
        (error,) = (await self.execute_unchecked(document, **variables)).get("errors", ())
        return error_extensions(error)

    async def execute_unchecked(self, document: str, **variables: object) -> Json:
        """Execute a document and return the whole response, which may contain errors."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        # Each request has its own connection, like requests of different clients. Without TLS, verify=False only saves
        # loading certificate authorities, which takes 20 ms of CPU time.
        async with httpx.AsyncClient(timeout=60, trust_env=False, verify=False) as http:
            response = await http.post(
                f"{next(self._gateways)}/graphql", json={"query": document, "variables": variables}, headers=headers
            )
        return cast("Json", response.json())

    async def log_in(self, email: str) -> None:
        """Log in; repeat the attempt after UPSTREAM_UNAVAILABLE and RATE_LIMITED, as a client should."""
        async with asyncio.timeout(150):
            while True:
                response = await self._try_to_log_in(email)
                extensions = [error["extensions"] for error in response.get("errors", ())]
                codes = [each["code"] for each in extensions]
                if codes not in (["UPSTREAM_UNAVAILABLE"], ["RATE_LIMITED"]):
                    break
                await asyncio.sleep(extensions[0].get("retryAfter", 0.5))
        assert not codes, response
        login = response["data"]["login"]
        assert login["operation"]["status"] == "COMPLETED", response
        self.token = login["sessionToken"]

    async def _try_to_log_in(self, email: str) -> Json:
        return await self.execute_unchecked(
            OPERATION
            + """mutation ($email: String!, $password: String!) {
              login(input: {email: $email, password: $password, waitSeconds: 30}) {
                sessionToken operation { ...State }
              }
            }""",
            email=email,
            password=PASSWORD,
        )

    async def tenant_id(self, name: str) -> str:
        """Return the id of the viewer's tenant with this name."""
        response = await self.execute("{ viewer { tenantOverview { availableTenants { id name } } } }")
        tenants = response["viewer"]["tenantOverview"]["availableTenants"]
        return cast("str", next(tenant["id"] for tenant in tenants if tenant["name"] == name))

    async def current_tenant(self) -> str:
        """Return the name of the current tenant."""
        response = await self.execute("{ viewer { tenantOverview { currentTenant { name } } } }")
        return cast("str", response["viewer"]["tenantOverview"]["currentTenant"]["name"])

    async def ensure_tenant(self, name: str) -> None:
        """Switch to the tenant with this name unless it is the current one."""
        if await self.current_tenant() != name:
            _, self.token = await self.switch_tenant(await self.tenant_id(name))

    async def start_switch(self, tenant_id: str) -> tuple[str, str]:
        """Start a tenant switch; return its id and the token of the new session.

        For a switch to the current tenant the token is the present one.
        """
        response = await self.execute(
            """mutation ($id: ID!) {
              switchTenant(input: {tenantId: $id, waitSeconds: 0}) { sessionToken operation { id } }
            }""",
            id=tenant_id,
        )
        started = response["switchTenant"]
        return started["operation"]["id"], cast("str", started["sessionToken"] or self.token)

    async def switch_tenant(self, tenant_id: str) -> tuple[str, str]:
        """Switch the tenant and wait until the switch has completed; return its id and the token of the new session."""
        operation_id, token = await self.start_switch(tenant_id)
        assert (await self.wait_for_final_state(operation_id))["status"] == "COMPLETED"
        return operation_id, token

    @asynccontextmanager
    async def follow(self, operation_id: str) -> AsyncIterator[AsyncIterator[Json]]:
        """Subscribe to the operation; yield its states until the server completes the subscription."""
        url = f"{next(self._gateways)}/graphql".replace("http", "ws", 1)
        async with graphql_socket(url, self.token) as socket:
            document = OPERATION + "subscription ($id: ID!) { operation(id: $id) { ...State } }"
            query = {"query": document, "variables": {"id": operation_id}}
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": query}))

            async def states() -> AsyncIterator[Json]:
                async for frame in socket:
                    message = json.loads(frame)
                    if message["type"] == "complete":
                        return
                    if message["type"] == "ping":
                        await socket.send(json.dumps({"type": "pong"}))
                        continue
                    assert message["type"] == "next", message
                    assert "errors" not in message["payload"], message
                    yield message["payload"]["data"]["operation"]
                raise AssertionError("The socket closed before the subscription was complete.")

            yield states()

    async def wait_for_final_state(self, operation_id: str, deadline_seconds: float = 90) -> Json:
        """Follow the operation to its end and return its last state."""
        last: Json = {}
        async with asyncio.timeout(deadline_seconds), self.follow(operation_id) as states:
            async for state in states:
                last = state
        return last


def step_of(state: Json, name: str) -> Json:
    """Return the step with this name."""
    return next(each for each in state["progress"]["steps"] if each["name"] == name)
