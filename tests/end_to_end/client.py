"""A client of the API as an outsider would write it: JSON over HTTP, and graphql-transport-ws."""

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

from tests.gateway.fakes import facts
from tests.stack import Stack

Json = dict[str, Any]
"""What an answer holds; a test knows its shape from its own document."""

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
    """One user's client, that asks each of the gateways in turn. ``token`` is the session's, once signed in."""

    def __init__(self, stack: Stack, token: str | None = None) -> None:
        self._gateways = cycle(stack.urls or [stack.url])
        self.token = token

    async def ask(self, document: str, **variables: object) -> Json:
        """The answer's data; AssertionError with its errors where there are any."""
        body = await self.hear(document, **variables)
        assert "errors" not in body, body
        return cast("Json", body["data"])

    async def refused(self, document: str, **variables: object) -> Json:
        """The one error's facts; AssertionError where there is none or another one."""
        (error,) = (await self.hear(document, **variables)).get("errors", ())
        return facts(error)

    async def hear(self, document: str, **variables: object) -> Json:
        """The whole answer."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        # A connection of its own, as if from anywhere; verify=False as nothing is encrypted: to read the authorities'
        # certificates for each takes 20 ms of a processor.
        async with httpx.AsyncClient(timeout=60, trust_env=False, verify=False) as http:
            answer = await http.post(
                f"{next(self._gateways)}/graphql", json={"query": document, "variables": variables}, headers=headers
            )
        return cast("Json", answer.json())

    async def log_in(self, email: str) -> None:
        """Log in, and repeat the attempt as a client should.

        After UPSTREAM_UNAVAILABLE a service is restarted within seconds; RATE_LIMITED states when to repeat.
        """
        async with asyncio.timeout(150):
            while True:
                answer = await self._try_to_log_in(email)
                extensions = [error["extensions"] for error in answer.get("errors", ())]
                codes = [each["code"] for each in extensions]
                if codes not in (["UPSTREAM_UNAVAILABLE"], ["RATE_LIMITED"]):
                    break
                await asyncio.sleep(extensions[0].get("retryAfter", 0.5))
        assert not codes, answer
        login = answer["data"]["login"]
        assert login["operation"]["status"] == "COMPLETED", answer
        self.token = login["sessionToken"]

    async def _try_to_log_in(self, email: str) -> Json:
        return await self.hear(
            OPERATION
            + """mutation ($email: String!, $password: String!) {
              login(input: {email: $email, password: $password, waitSeconds: 30}) {
                sessionToken operation { ...State }
              }
            }""",
            email=email,
            password=PASSWORD,
        )

    async def tenant(self, name: str) -> str:
        """The id of one of the viewer's tenants."""
        answer = await self.ask("{ viewer { tenantOverview { availableTenants { id name } } } }")
        tenants = answer["viewer"]["tenantOverview"]["availableTenants"]
        return cast("str", next(tenant["id"] for tenant in tenants if tenant["name"] == name))

    async def current_tenant(self) -> str:
        answer = await self.ask("{ viewer { tenantOverview { currentTenant { name } } } }")
        return cast("str", answer["viewer"]["tenantOverview"]["currentTenant"]["name"])

    async def work_in(self, name: str) -> None:
        """Wherever somebody before has left this user."""
        if await self.current_tenant() != name:
            _, self.token = await self.switched(await self.tenant(name))

    async def start_switch(self, tenant_id: str) -> tuple[str, str]:
        """Start a switch; return its id and the new session's token, or the present one for the current tenant."""
        answer = await self.ask(
            """mutation ($id: ID!) {
              switchTenant(input: {tenantId: $id, waitSeconds: 0}) { sessionToken operation { id } }
            }""",
            id=tenant_id,
        )
        started = answer["switchTenant"]
        return started["operation"]["id"], cast("str", started["sessionToken"] or self.token)

    async def switched(self, tenant_id: str) -> tuple[str, str]:
        """As ``start_switch``, once it has completed."""
        operation_id, token = await self.start_switch(tenant_id)
        assert (await self.to_its_end(operation_id))["status"] == "COMPLETED"
        return operation_id, token

    @asynccontextmanager
    async def follow(self, operation_id: str) -> AsyncIterator[AsyncIterator[Json]]:
        """Its states as a subscription tells them, until the server completes it."""
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

    async def to_its_end(self, operation_id: str, deadline_seconds: float = 90) -> Json:
        """The last state."""
        last: Json = {}
        async with asyncio.timeout(deadline_seconds), self.follow(operation_id) as states:
            async for state in states:
                last = state
        return last


def step(state: Json, name: str) -> Json:
    return next(each for each in state["progress"]["steps"] if each["name"] == name)
