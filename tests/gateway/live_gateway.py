"""A gateway that listens on a port as in production, and websocket clients for it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

from temporalio.client import Interceptor
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from gateway.app import Gateway as Application
from gateway.app import create_app
from gateway.dependencies import Dependencies
from gateway.server.main import Tls, serve
from gateway.settings import Settings
from infrastructure.caching.cache import Cache
from infrastructure.change_notifications import ChangeNotifier
from infrastructure.observability.monitoring import Monitoring
from tests.gateway.fakes import TOKEN, FakeServices

VIEWER_QUERY = "{ viewer { user { id } } }"
FOLLOW = "subscription ($id: ID!, $after: String) { operation(id: $id, after: $after) { id status cursor } }"
SWITCH = """
mutation ($input: SwitchTenantInput!) { switchTenant(input: $input) { operation { id cursor } } }
"""


class Gateway:
    """A running gateway.

    ``url`` is the address of its websocket endpoint, ``http`` its base URL. Set ``stop`` to stop the gateway;
    ``stopped`` is set after it has stopped.
    """

    def __init__(self, app: Application, port: int, stop: asyncio.Event, stopped: asyncio.Event) -> None:
        self.app = app
        self.port = port
        self.url = f"ws://127.0.0.1:{port}/graphql"
        self.http = f"http://127.0.0.1:{port}"
        self.stop = stop
        self.stopped = stopped

    @asynccontextmanager
    async def open(
        self, payload: dict[str, Any] | None = None, *, headers: dict[str, str] | None = None, **options: Any
    ) -> AsyncIterator[Socket]:
        """Open a websocket, send ``connection_init`` with the payload and wait for the acknowledgement."""
        protocol: Any = "graphql-transport-ws"
        async with connect(
            self.url, subprotocols=[protocol], additional_headers=headers or {}, **options
        ) as connection:
            await connection.send(json.dumps({"type": "connection_init", "payload": payload}))
            assert json.loads(await connection.recv()) == {"type": "connection_ack"}
            yield Socket(connection)


class Socket:
    """A graphql-transport-ws client that does not answer pings."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def execute(self, query: str, **variables: object) -> list[Any]:
        """Execute a document and return all messages of its operation up to ``complete`` or ``error``."""
        operation_id = await self.subscribe(query, **variables)
        messages: list[Any] = []
        while not messages or messages[-1]["type"] not in ("complete", "error"):
            message = await self.receive()
            assert message["id"] == operation_id
            messages.append(message)
        return messages

    async def execute_among_others(self, query: str) -> None:
        """Execute a document to its end and ignore messages of other operations."""
        operation_id = await self.subscribe(query)
        while (await self.receive_for(operation_id))["type"] != "complete":
            pass

    async def receive_for(self, operation_id: str | None) -> Any:
        """Return the next message with this operation id; None means a message without an id."""
        while (message := await self.receive()).get("id") != operation_id:
            pass
        return message

    async def start_switch(self, tenant_id: str) -> dict[str, Any]:
        """Start a tenant switch, which no worker executes; return its id and cursor."""
        (response, _) = await self.execute(SWITCH, input={"tenantId": tenant_id, "waitSeconds": 0})
        started: dict[str, Any] = response["payload"]["data"]["switchTenant"]["operation"]
        return started

    async def subscribe(self, query: str, **variables: object) -> str:
        """Send ``subscribe`` with a new operation id and return the id."""
        operation_id = uuid4().hex
        payload = {"query": query, "variables": variables}
        await self.send({"id": operation_id, "type": "subscribe", "payload": payload})
        return operation_id

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message as JSON."""
        await self.connection.send(json.dumps(message))

    async def receive(self) -> Any:
        """Return the next message; raise TimeoutError after 15 seconds."""
        return json.loads(await asyncio.wait_for(self.connection.recv(), 15))

    async def wait_for_close(self) -> int | None:
        """Read until the gateway closes the socket and return the close code."""
        try:
            while True:
                await self.receive()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


@asynccontextmanager
async def running_gateway(
    settings: Settings,
    services: FakeServices,
    *,
    cache: Cache | None = None,
    change_notifier: ChangeNotifier | None = None,
    drain_seconds: float = 1,
    write_timeout_seconds: float = 30,
    keep_alive_seconds: float = 75,
    tls: Tls | None = None,
    interceptors: Sequence[Interceptor] = (),
    monitoring: Monitoring | None = None,
) -> AsyncIterator[Gateway]:
    """Run a gateway on a free port while the block runs."""
    app = create_app(
        settings,
        Dependencies(
            services=services.transport,
            cache=cache,
            change_notifier=change_notifier,
            interceptors=interceptors,
            monitoring=monitoring or Monitoring(),
        ),
    )
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    stop, ready, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(
        serve(
            app,
            drain=app.streams.drain,
            host="127.0.0.1",
            port=port,
            stop=stop,
            listening=listening,
            on_ready=ready.set,
            drain_seconds=drain_seconds,
            write_timeout_seconds=write_timeout_seconds,
            keep_alive_seconds=keep_alive_seconds,
            tls=tls,
        )
    )
    serving.add_done_callback(lambda _: stopped.set())
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    try:
        if not ready.is_set():
            await serving
        yield Gateway(app, port, stop, stopped)
    finally:
        waiting.cancel()
        stop.set()
        await serving


class NonReadingSocket:
    """A websocket client that sends messages but does not read."""

    def __init__(self, network: socket.socket, protocol: ClientProtocol) -> None:
        self._network = network
        self._protocol = protocol

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message and ignore that the connection may be closed."""
        with suppress(ConnectionError):
            self._protocol.send_text(json.dumps(message).encode())
            for data in self._protocol.data_to_send():
                await asyncio.get_running_loop().sock_sendall(self._network, data)

    async def read(self) -> tuple[list[Any], int | None]:
        """Read everything that was sent; return the messages, and the close code if there was a close frame."""
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await loop.sock_recv(self._network, 65536):
                self._protocol.receive_data(data)
        frames = [event for event in self._protocol.events_received() if isinstance(event, Frame)]
        texts = [json.loads(bytes(frame.data)) for frame in frames if frame.opcode is Opcode.TEXT]
        return texts, self._protocol.close_rcvd.code if self._protocol.close_rcvd else None


@asynccontextmanager
async def non_reading_socket(gateway: Gateway) -> AsyncIterator[NonReadingSocket]:
    """Open a websocket with Ada's session whose client does not read."""
    loop = asyncio.get_running_loop()
    protocol = ClientProtocol(parse_uri(gateway.url), subprotocols=[Subprotocol("graphql-transport-ws")])
    with socket.socket() as network:
        network.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        network.setblocking(False)
        await loop.sock_connect(network, ("127.0.0.1", gateway.port))
        protocol.send_request(protocol.connect())
        for data in protocol.data_to_send():
            await loop.sock_sendall(network, data)
        while protocol.state is not State.OPEN:
            protocol.receive_data(await loop.sock_recv(network, 1024))
        non_reading = NonReadingSocket(network, protocol)
        await non_reading.send({"type": "connection_init", "payload": authorization()})
        yield non_reading


def authorization(token: str = TOKEN) -> dict[str, str]:
    """Return the authorization header, which is also the payload of ``connection_init``, for a session token."""
    return {"authorization": f"Bearer {token}"}


async def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Poll the condition until it holds; raise TimeoutError after this many seconds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.02)
