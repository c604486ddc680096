"""Send GraphQL requests over kept-alive HTTP connections."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from tools.benchmarks.raw_protocol import HttpConnection

Json = dict[str, Any]


class HttpLoad:
    """Sends one document ``count`` times or for ``seconds``, with ``concurrency`` requests at a time."""

    def __init__(self, config: Json) -> None:
        self._host, self._port = config["host"], config["port"]
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {config['token']}"}
        self._body = json.dumps({"query": config["query"], "variables": config.get("variables", {})}).encode()
        self._connections: list[HttpConnection] = []

    async def do(self, command: Json) -> Json:
        """Return the milliseconds of each request, the seconds of all. Raises RuntimeError if a response has errors."""
        concurrency = command["concurrency"]
        self._connections = [each for each in self._connections if each.is_open]  # the server closes idle connections
        while len(self._connections) < concurrency:
            self._connections.append(await HttpConnection.open(self._host, self._port))
        left = command.get("count", 1_000_000)
        started = time.perf_counter()
        until = started + command.get("seconds", 60)
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

        await asyncio.gather(*(ask(connection) for connection in self._connections[:concurrency]))
        return {"milliseconds": milliseconds, "seconds": time.perf_counter() - started}
