"""``python -m tools.benchmarks.minimal_server CONFIG``: the lower bound of the time that a gateway on hypercorn takes.

The application has neither GraphQL nor sessions: it responds to each query with the same bytes, and starts and follows
workflows like the baseline.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from contextlib import suppress
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.types import Receive, Scope, Send
from temporalio.client import Client

from infrastructure.temporal.connection import exit_process
from tools.benchmarks.baseline import connect_client, follow_states, start_switch

_RESPONSE = b'{"data":{}}'
_JSON = [(b"content-type", b"application/json"), (b"content-length", str(len(_RESPONSE)).encode())]


class MinimalServer:
    """The ASGI application."""

    def __init__(self, client: Client, config: dict[str, Any]) -> None:
        self._client = client
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._answer(receive, send)
            case "websocket":
                await self._follow(receive, send)

    async def _answer(self, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        if b"mutation" in body:
            await start_switch(self._client, self._config)
        await send({"type": "http.response.start", "status": 200, "headers": _JSON})
        await send({"type": "http.response.body", "body": _RESPONSE})

    async def _follow(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "graphql-transport-ws"})
        await receive()
        await send({"type": "websocket.send", "text": '{"type":"connection_ack"}'})
        subscribe = json.loads((await receive())["text"])
        sending = asyncio.create_task(self._send_states(subscribe["id"], subscribe["payload"]["variables"]["id"], send))
        while (await receive())["type"] != "websocket.disconnect":
            pass
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending

    async def _send_states(self, subscription: str, operation: str, send: Send) -> None:
        async for state in follow_states(self._client, operation):
            cursor = base64.urlsafe_b64encode(b"-" * 12 + f"{state.revision}.".encode()).decode().rstrip("=")
            payload = {"data": {"operation": {"id": operation, "cursor": cursor, "status": state.status}}}
            text = json.dumps({"type": "next", "id": subscription, "payload": payload})
            await send({"type": "websocket.send", "text": text})


async def main(config: dict[str, Any]) -> None:
    settings = Config()
    settings.bind = [f"{config['host']}:{config['port']}"]
    settings.accesslog = None
    settings.keep_alive_max_requests = 1_000_000
    await serve(MinimalServer(await connect_client(config), config), settings)  # type: ignore[arg-type]


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
    exit_process(0)
