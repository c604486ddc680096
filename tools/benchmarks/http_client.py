"""GraphQL requests over a number of connections that are kept."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from tools.benchmarks.raw_protocol import HttpConnection

Json = dict[str, Any]


class Posts:
    """Sends one document, ``count`` times or as often as ``seconds`` allow, ``flight`` at once."""

    def __init__(self, config: Json) -> None:
        self._host, self._port = config["host"], config["port"]
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {config['token']}"}
        self._body = json.dumps({"query": config["query"], "variables": config.get("variables", {})}).encode()
        self._connections: list[HttpConnection] = []

    async def do(self, order: Json) -> Json:
        """How long each took, in milliseconds, and all of them, in seconds. RuntimeError at an answer with errors."""
        flight = order["flight"]
        self._connections = [each for each in self._connections if each.is_open]  # idle ones are hung up on
        while len(self._connections) < flight:
            self._connections.append(await HttpConnection.open(self._host, self._port))
        left = order.get("count", 1_000_000)
        begun = time.perf_counter()
        until = begun + order.get("seconds", 60)
        milliseconds: list[float] = []

        async def ask(connection: HttpConnection) -> None:
            nonlocal left
            while left > 0 and time.perf_counter() < until:
                left -= 1
                sent = time.perf_counter()
                status, body = await connection.post("/graphql", self._body, self._headers)
                milliseconds.append((time.perf_counter() - sent) * 1000)
                if status != 200 or b'"errors"' in body:
                    raise RuntimeError(f"{status} {body[:500]!r}")

        await asyncio.gather(*(ask(connection) for connection in self._connections[:flight]))
        return {"milliseconds": milliseconds, "seconds": time.perf_counter() - begun}
