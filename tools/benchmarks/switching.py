"""Complete tenant switches, one after another: through the gateway, and as a workflow of empty activities."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from uuid import uuid4

from temporalio.client import Client

from tools.benchmarks.baseline import connect_client
from tools.benchmarks.empty_switch import QUEUE, EmptySwitch
from tools.benchmarks.raw_protocol import HttpConnection, Subscriber

Json = dict[str, Any]

_SWITCH = """mutation ($id: ID!) {
  switchTenant(input: {tenantId: $id, waitSeconds: 0}) { sessionToken operation { id } }
}"""
_FOLLOW = """subscription ($id: ID!) { operation(id: $id) { id status progress { currentStep completedSteps } } }"""
_FINAL_FRAME_TIMEOUT_SECONDS = 15.0


class Switches:
    """Switch the tenant back and forth: start by mutation, follow by subscription until the final frame."""

    def __init__(self, config: Json) -> None:
        self._host, self._port, self._token = config["host"], config["port"], config["token"]
        self._here, self._there = config["tenant"], config["other"]

    async def do(self, command: Json) -> Json:
        """Carry out ``count`` switches. Return the milliseconds of each."""
        milliseconds: list[float] = []
        connection = await HttpConnection.open(self._host, self._port)
        for _ in range(command["count"]):
            started = time.perf_counter()
            await self._switch(connection)
            milliseconds.append((time.perf_counter() - started) * 1000)
        connection.close()
        return {"milliseconds": milliseconds}

    async def _switch(self, connection: HttpConnection) -> None:
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._token}"}
        body = json.dumps({"query": _SWITCH, "variables": {"id": self._there}}).encode()
        status, answer = await connection.post("/graphql", body, headers)
        if status != 200 or b'"errors"' in answer:
            raise RuntimeError(f"{status} {answer[:500]!r}")
        started = json.loads(answer)["data"]["switchTenant"]
        await self._follow(started["operation"]["id"])
        self._token = started["sessionToken"]
        self._here, self._there = self._there, self._here

    async def _follow(self, operation_id: str) -> None:
        loop = asyncio.get_running_loop()
        end: asyncio.Future[None] = loop.create_future()

        def receive(kind: str, _now: int, payload: bytes) -> None:
            if end.done():
                return
            if kind == "next" and b'"COMPLETED"' in payload:
                end.set_result(None)
            elif kind != "next":
                end.set_exception(RuntimeError(f"{kind} {payload[:500]!r}"))

        query = {"query": _FOLLOW, "variables": {"id": operation_id}}
        subscriber = Subscriber(self._host, {"authorization": f"Bearer {self._token}"}, query, receive)
        await loop.create_connection(lambda: subscriber, self._host, self._port)
        async with asyncio.timeout(_FINAL_FRAME_TIMEOUT_SECONDS):
            await end
        subscriber.abort()


class EmptySwitches:
    """Execute the workflow of empty activities with Temporal's own client."""

    def __init__(self, config: Json) -> None:
        self._config = config
        self._client: Client | None = None

    async def do(self, command: Json) -> Json:
        """Execute ``count`` workflows. Return the milliseconds of each."""
        self._client = client = self._client or await connect_client(self._config)
        milliseconds: list[float] = []
        for _ in range(command["count"]):
            started = time.perf_counter()
            await client.execute_workflow(EmptySwitch.run, "step", id=uuid4().hex, task_queue=QUEUE)
            milliseconds.append((time.perf_counter() - started) * 1000)
        return {"milliseconds": milliseconds}
