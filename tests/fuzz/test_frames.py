"""Malformed and hostile websocket frames end only their own socket, with the close code of the protocol."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from contracts.callers import Caller
from tests.gateway.fakes import FakeServices
from tests.gateway.live_gateway import VIEWER_QUERY, Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

INIT = '{"type":"connection_init"}'
SUBSCRIPTION = "subscription { operation(id: %s) { id } }"
QUERY: dict[str, Any] = {"query": VIEWER_QUERY}


def subscribe(id: object = "1", payload: object = QUERY, **others: object) -> str:
    """Return a ``subscribe`` message."""
    return json.dumps({"id": id, "type": "subscribe", "payload": payload, **others})


def raw_frame(
    opcode: int, payload: bytes = b"", *, masked: bool = True, final: bool = True, reserved: int = 0
) -> bytes:
    """Return a frame of RFC 6455, section 5.2, which may be invalid."""
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    mask = os.urandom(4) if masked else b""
    size, flag = len(payload), 0x80 if masked else 0
    if size < 126:
        head += bytes([flag | size])
    elif size < 65536:
        head += struct.pack("!BH", flag | 126, size)
    else:
        head += struct.pack("!BQ", flag | 127, size)
    body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)) if masked else payload
    return head + mask + body


MALFORMED: list[tuple[str, str | bytes, int]] = [
    ("bytes", b'{"type":"ping"}', 4400),
    ("no bytes", b"", 4400),
    ("no text", "", 4400),
    ("no JSON", "nope", 4400),
    ("half of JSON", '{"type":"ping"', 4400),
    ("two objects", '{"type":"ping"}{"type":"ping"}', 4400),
    ("null", "null", 4400),
    ("a number", "1", 4400),
    ("text in JSON", '"ping"', 4400),
    ("a list", '[{"type":"ping"}]', 4400),
    ("deep lists", "[" * 30_000, 4400),
    ("deep objects", '{"a":' * 10_000, 4400),
    ("a long number", '{"type":"ping","payload":{"a":' + "9" * 5000 + "}}", 4400),
    ("no number", '{"type":"ping","payload":{"a":NaN}}', 4400),
    ("a lone surrogate", '{"type":"subscribe","id":"\\ud800","payload":{"query":"{ viewer { user { id } } }"}}', 4400),
    ("a lone surrogate in the query", '{"type":"subscribe","id":"1","payload":{"query":"{ \\udfff }"}}', 4400),
    ("no type", '{"id":"1"}', 4400),
    ("a type of another kind", '{"type":5}', 4400),
    ("a type that is a list", '{"type":["ping"]}', 4400),
    ("an unknown type", '{"type":"start","id":"1"}', 4400),
    ("a type in capitals", '{"type":"PING"}', 4400),
    ("a type for servers", '{"type":"connection_ack"}', 4400),
    ("a result", '{"type":"next","id":"1","payload":{"data":null}}', 4400),
    ("an error", '{"type":"error","id":"1","payload":[]}', 4400),
    ("a ping with a list", '{"type":"ping","payload":[]}', 4400),
    ("a pong with text", '{"type":"pong","payload":"x"}', 4400),
    ("a connection_init that is a list", '{"type":"connection_init","payload":[]}', 4400),
    ("a connection_init that is text", '{"type":"connection_init","payload":"x"}', 4400),
    ("no id", '{"type":"subscribe","payload":{"query":"{ viewer { user { id } } }"}}', 4400),
    ("an id that is a number", subscribe(1), 4400),
    ("an id that is empty", subscribe(""), 4400),
    ("an id of excessive length", subscribe("x" * 60_000), 4400),
    ("no payload", '{"type":"subscribe","id":"1"}', 4400),
    ("a payload that is text", subscribe(payload="{ viewer }"), 4400),
    ("no query", subscribe(payload={}), 4400),
    ("a query that is a list", subscribe(payload={"query": [VIEWER_QUERY]}), 4400),
    ("variables that are a list", subscribe(payload={"query": VIEWER_QUERY, "variables": []}), 4400),
    ("a name that is a number", subscribe(payload={"query": VIEWER_QUERY, "operationName": 1}), 4400),
    ("extensions that are text", subscribe(payload={"query": VIEWER_QUERY, "extensions": "x"}), 4400),
    ("complete without an id", '{"type":"complete"}', 4400),
    ("too much text", json.dumps({"type": "ping", "payload": {"a": "x" * 65536}}), 1009),
    ("too many bytes", b"x" * 65537, 1009),
    ("too much text of multi-byte characters", '{"type":"ping","payload":{"a":"' + "😀" * 20_000 + '"}}', 1009),
]


@pytest.mark.parametrize(("frame", "code"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
async def test_malformed_message_closes_its_socket_with_the_code_of_the_protocol(
    gateway: Gateway, frame: str | bytes, code: int
) -> None:
    for before in ([], [INIT]) if code == 4400 else ([],):
        async with open_socket(gateway) as socket:
            for message in before:
                await socket.send(message)
            await socket.send(frame)
            assert await close_code_of(socket) == code
    await check_that_the_gateway_responds(gateway)


OUT_OF_TURN: list[tuple[str, Sequence[str], int]] = [
    ("subscribes before connection_init", [subscribe()], 4401),
    ("follows an operation before connection_init", [subscribe(payload={"query": SUBSCRIPTION % '"x"'})], 4401),
    ("sends connection_init twice", [INIT, INIT], 4429),
    ("sends connection_init many times at once", [INIT] * 50, 4429),
    ("never sends connection_init", [], 4408),
    ("sends a ping instead of connection_init", ['{"type":"ping"}'], 4408),
    ("completes an operation that was not started", ['{"type":"complete","id":"1"}'], 4408),
    ("sends a token that is a number", ['{"type":"connection_init","payload":{"authorization":5}}'], 4403),
    ("sends a token that is a list", ['{"type":"connection_init","payload":{"Authorization":[]}}'], 4403),
    (
        "sends a token of excessive length",
        [json.dumps({"type": "connection_init", "payload": {"authorization": "x" * 9999}})],
        4403,
    ),
    ("sends endless pings", ['{"type":"ping"}'] * 20_000, 4429),
    ("sends endless pongs", [INIT] + ['{"type":"pong"}'] * 200, 4429),
    ("completes unknown operations endlessly", [INIT] + ['{"type":"complete","id":"1"}'] * 200, 4429),
]


@pytest.mark.parametrize(
    ("messages", "code"), [case[1:] for case in OUT_OF_TURN], ids=[case[0] for case in OUT_OF_TURN]
)
async def test_message_in_a_wrong_state_closes_its_socket_with_the_code_of_the_protocol(
    gateway: Gateway, messages: Sequence[str], code: int
) -> None:
    async with open_socket(gateway) as socket:
        reading = asyncio.create_task(read_to_end(socket))
        try:
            for message in messages:
                await socket.send(message)
        except ConnectionClosed:
            pass
        types, code_received = await reading
    assert code_received == code
    assert types.count("pong") <= 100
    await check_that_the_gateway_responds(gateway)


async def test_two_operations_with_the_same_id_close_the_socket(gateway: Gateway, services: FakeServices) -> None:
    may_continue, default_handler = asyncio.Event(), services.handlers["users/get_users"]

    async def slow(caller: Caller, body: dict[str, Any]) -> Any:
        await may_continue.wait()
        return default_handler(caller, body)

    services.handlers["users/get_users"] = slow
    async with open_socket(gateway) as socket:
        await socket.send('{"type":"connection_init","payload":{"authorization":"ada-s-token"}}')
        await socket.send(subscribe())
        await socket.send(subscribe())
        assert await close_code_of(socket) == 4409
    may_continue.set()
    services.handlers["users/get_users"] = default_handler


BROKEN_FRAMES: list[tuple[str, bytes, int]] = [
    ("text that is no UTF-8", raw_frame(0x1, b"\xff\xfe"), 1007),
    ("not masked", raw_frame(0x1, b'{"type":"ping"}', masked=False), 1002),
    ("a reserved bit", raw_frame(0x1, b'{"type":"ping"}', reserved=4), 1002),
    ("an unknown opcode", raw_frame(0x3, b"x"), 1002),
    ("an unknown control opcode", raw_frame(0xB, b"x"), 1002),
    ("a long ping", raw_frame(0x9, b"x" * 126), 1002),
    ("a ping in parts", raw_frame(0x9, b"x", final=False), 1002),
    ("a second part without a first", raw_frame(0x0, b"x"), 1002),
    ("two first parts", raw_frame(0x1, b"x", final=False) + raw_frame(0x1, b"x"), 1002),
    ("a close with a code that is never sent", raw_frame(0x8, struct.pack("!H", 1005)), 1002),
    ("a close with half a code", raw_frame(0x8, b"\x03"), 1002),
    (
        "parts too large together",
        raw_frame(0x1, b"x" * 40_000, final=False) + raw_frame(0x0, b"x" * 40_000, final=False),
        1009,
    ),
    ("the largest size there is", b"\x81\xff" + b"\x7f" + b"\xff" * 7 + b"mask" + b"x" * 70_000, 1009),
    ("endless empty fragments", raw_frame(0x1, final=False) + raw_frame(0x0, final=False) * 2_000, 1009),
    ("200 pings", raw_frame(0x9) * 200, 1008),
]


@pytest.mark.parametrize(
    ("data", "code"), [case[1:] for case in BROKEN_FRAMES], ids=[case[0] for case in BROKEN_FRAMES]
)
async def test_invalid_frame_ends_its_connection_with_the_code_of_rfc_6455(
    gateway: Gateway, data: bytes, code: int
) -> None:
    async with open_socket(gateway) as socket:
        socket.transport.write(data)  # bypasses the library, which refuses to send an invalid frame
        assert await close_code_of(socket) == code
    await check_that_the_gateway_responds(gateway)


@pytest.mark.parametrize("offered", [["graphql-ws"], ["chat"], ["graphql-transport-ws2"], None])
async def test_refuses_other_subprotocols_with_the_code_of_the_protocol(
    gateway: Gateway, offered: list[str] | None
) -> None:
    protocols = [Subprotocol(name) for name in offered] if offered else None
    async with connect(gateway.url, subprotocols=protocols) as socket:
        assert socket.subprotocol is None
        assert await close_code_of(socket) == 4406


def open_socket(gateway: Gateway) -> connect:
    """Return a context that opens a websocket without compression and pings."""
    return connect(
        gateway.url,
        subprotocols=[Subprotocol("graphql-transport-ws")],
        compression=None,
        ping_interval=None,
        close_timeout=5,
    )


async def read_to_end(socket: ClientConnection) -> tuple[list[str], int | None]:
    """Return the types of all messages and the close code."""
    types: list[str] = []
    try:
        async with asyncio.timeout(20):
            while True:
                types.append(json.loads(await socket.recv())["type"])
    except ConnectionClosed as closed:
        return types, closed.rcvd.code if closed.rcvd else None


async def close_code_of(socket: ClientConnection) -> int | None:
    """Read to the end and return the close code."""
    return (await read_to_end(socket))[1]


async def check_that_the_gateway_responds(gateway: Gateway) -> None:
    """Check that the gateway still responds to a valid request."""
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{gateway.http}/healthz")).status_code == 200
