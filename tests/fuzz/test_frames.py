"""Malformed and hostile websocket frames: each ends its socket with the protocol's code, and nothing else ends."""

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
from tests.gateway.fakes import Services
from tests.gateway.live_gateway import WHO, Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

INIT = '{"type":"connection_init"}'
LASTING = "subscription { operation(id: %s) { id } }"
QUERY: dict[str, Any] = {"query": WHO}


def subscribe(id: object = "1", payload: object = QUERY, **others: object) -> str:
    return json.dumps({"id": id, "type": "subscribe", "payload": payload, **others})


def raw(opcode: int, payload: bytes = b"", *, masked: bool = True, final: bool = True, reserved: int = 0) -> bytes:
    """A frame of RFC 6455, 5.2, however wrong."""
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
    ("half a letter", '{"type":"subscribe","id":"\\ud800","payload":{"query":"{ viewer { user { id } } }"}}', 4400),
    ("half a letter in the query", '{"type":"subscribe","id":"1","payload":{"query":"{ \\udfff }"}}', 4400),
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
    ("an introduction that is a list", '{"type":"connection_init","payload":[]}', 4400),
    ("an introduction that is text", '{"type":"connection_init","payload":"x"}', 4400),
    ("no id", '{"type":"subscribe","payload":{"query":"{ viewer { user { id } } }"}}', 4400),
    ("an id that is a number", subscribe(1), 4400),
    ("an id that is empty", subscribe(""), 4400),
    ("an id without end", subscribe("x" * 60_000), 4400),
    ("no payload", '{"type":"subscribe","id":"1"}', 4400),
    ("a payload that is text", subscribe(payload="{ viewer }"), 4400),
    ("no query", subscribe(payload={}), 4400),
    ("a query that is a list", subscribe(payload={"query": [WHO]}), 4400),
    ("variables that are a list", subscribe(payload={"query": WHO, "variables": []}), 4400),
    ("a name that is a number", subscribe(payload={"query": WHO, "operationName": 1}), 4400),
    ("extensions that are text", subscribe(payload={"query": WHO, "extensions": "x"}), 4400),
    ("the end of nothing named", '{"type":"complete"}', 4400),
    ("too much text", json.dumps({"type": "ping", "payload": {"a": "x" * 65536}}), 1009),
    ("too many bytes", b"x" * 65537, 1009),
    ("too much text of wide letters", '{"type":"ping","payload":{"a":"' + "😀" * 20_000 + '"}}', 1009),
]


@pytest.mark.parametrize(("frame", "code"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
async def test_a_malformed_message_ends_its_socket_with_the_protocols_code(
    gateway: Gateway, frame: str | bytes, code: int
) -> None:
    for before in ([], [INIT]) if code == 4400 else ([],):
        async with opened(gateway) as socket:
            for message in before:
                await socket.send(message)
            await socket.send(frame)
            assert await end(socket) == code
    await serves(gateway)


OUT_OF_TURN: list[tuple[str, Sequence[str], int]] = [
    ("asks before the introduction", [subscribe()], 4401),
    ("follows before the introduction", [subscribe(payload={"query": LASTING % '"x"'})], 4401),
    ("introduces itself twice", [INIT, INIT], 4429),
    ("introduces itself twice at once", [INIT] * 50, 4429),
    ("never introduces itself", [], 4408),
    ("pings instead of introducing itself", ['{"type":"ping"}'], 4408),
    ("ends what was not begun", ['{"type":"complete","id":"1"}'], 4408),
    ("brings a token that is a number", ['{"type":"connection_init","payload":{"authorization":5}}'], 4403),
    ("brings a token that is a list", ['{"type":"connection_init","payload":{"Authorization":[]}}'], 4403),
    (
        "brings a token without end",
        [json.dumps({"type": "connection_init", "payload": {"authorization": "x" * 9999}})],
        4403,
    ),
    ("pings without end", ['{"type":"ping"}'] * 20_000, 4429),
    ("pongs without end", [INIT] + ['{"type":"pong"}'] * 200, 4429),
    ("ends nothing without end", [INIT] + ['{"type":"complete","id":"1"}'] * 200, 4429),
]


@pytest.mark.parametrize(
    ("messages", "code"), [case[1:] for case in OUT_OF_TURN], ids=[case[0] for case in OUT_OF_TURN]
)
async def test_a_message_out_of_turn_ends_its_socket_with_the_protocols_code(
    gateway: Gateway, messages: Sequence[str], code: int
) -> None:
    async with opened(gateway) as socket:
        told = asyncio.create_task(heard(socket))
        try:
            for message in messages:
                await socket.send(message)
        except ConnectionClosed:
            pass
        types, ended = await told
    assert ended == code
    assert types.count("pong") <= 100
    await serves(gateway)


async def test_two_operations_of_one_name_end_the_socket(gateway: Gateway, services: Services) -> None:
    later, usual = asyncio.Event(), services.handlers["users/get_users"]

    async def slow(caller: Caller, body: dict[str, Any]) -> Any:
        await later.wait()
        return usual(caller, body)

    services.handlers["users/get_users"] = slow
    async with opened(gateway) as socket:
        await socket.send('{"type":"connection_init","payload":{"authorization":"ada-s-token"}}')
        await socket.send(subscribe())
        await socket.send(subscribe())
        assert await end(socket) == 4409
    later.set()
    services.handlers["users/get_users"] = usual


BROKEN: list[tuple[str, bytes, int]] = [
    ("text that is no UTF-8", raw(0x1, b"\xff\xfe"), 1007),
    ("not masked", raw(0x1, b'{"type":"ping"}', masked=False), 1002),
    ("a reserved bit", raw(0x1, b'{"type":"ping"}', reserved=4), 1002),
    ("an unknown opcode", raw(0x3, b"x"), 1002),
    ("an unknown control opcode", raw(0xB, b"x"), 1002),
    ("a long ping", raw(0x9, b"x" * 126), 1002),
    ("a ping in parts", raw(0x9, b"x", final=False), 1002),
    ("a second part without a first", raw(0x0, b"x"), 1002),
    ("two first parts", raw(0x1, b"x", final=False) + raw(0x1, b"x"), 1002),
    ("a close with a code that is never sent", raw(0x8, struct.pack("!H", 1005)), 1002),
    ("a close with half a code", raw(0x8, b"\x03"), 1002),
    ("parts too large together", raw(0x1, b"x" * 40_000, final=False) + raw(0x0, b"x" * 40_000, final=False), 1009),
    ("the largest size there is", b"\x81\xff" + b"\x7f" + b"\xff" * 7 + b"mask" + b"x" * 70_000, 1009),
    ("empty parts without end", raw(0x1, final=False) + raw(0x0, final=False) * 2_000, 1009),
    ("200 pings", raw(0x9) * 200, 1008),
]


@pytest.mark.parametrize(("data", "code"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
async def test_a_broken_frame_ends_its_connection_with_the_code_of_the_websocket_protocol(
    gateway: Gateway, data: bytes, code: int
) -> None:
    async with opened(gateway) as socket:
        socket.transport.write(data)  # past the library, which would not send such a frame
        assert await end(socket) == code
    await serves(gateway)


@pytest.mark.parametrize("offered", [["graphql-ws"], ["chat"], ["graphql-transport-ws2"], None])
async def test_another_subprotocol_is_refused_in_the_protocols_way(gateway: Gateway, offered: list[str] | None) -> None:
    protocols = [Subprotocol(name) for name in offered] if offered else None
    async with connect(gateway.url, subprotocols=protocols) as socket:
        assert socket.subprotocol is None
        assert await end(socket) == 4406


def opened(gateway: Gateway) -> connect:
    return connect(
        gateway.url,
        subprotocols=[Subprotocol("graphql-transport-ws")],
        compression=None,
        ping_interval=None,
        close_timeout=5,
    )


async def heard(socket: ClientConnection) -> tuple[list[str], int | None]:
    """The types of all messages to the end, and the code of the end."""
    types: list[str] = []
    try:
        async with asyncio.timeout(20):
            while True:
                types.append(json.loads(await socket.recv())["type"])
    except ConnectionClosed as closed:
        return types, closed.rcvd.code if closed.rcvd else None


async def end(socket: ClientConnection) -> int | None:
    return (await heard(socket))[1]


async def serves(gateway: Gateway) -> None:
    """Somebody decent is served as ever."""
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{gateway.http}/healthz")).status_code == 200
