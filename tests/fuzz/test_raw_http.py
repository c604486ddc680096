"""Bytes on a plain connection that are no decent HTTP: refused or cut off, and the next request is served as ever."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import httpx
import pytest

from tests.gateway.live_gateway import Gateway, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = b'{"query":"{ __typename }"}'
JSON = b"Content-Type: application/json\r\n"


def post(*headers: bytes, body: bytes = BODY, host: bytes = b"Host: localhost\r\n") -> bytes:
    return b"POST /graphql HTTP/1.1\r\n" + host + JSON + b"".join(headers) + b"\r\n" + body


def get(line: bytes, *headers: bytes) -> bytes:
    return line + b"\r\nHost: localhost\r\nConnection: close\r\n" + b"".join(headers) + b"\r\n"


def length(size: int) -> bytes:
    return b"Content-Length: %d\r\n" % size


CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: %s\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

REFUSED: list[tuple[str, bytes, set[int]]] = [
    ("a length and chunks", post(length(len(SMUGGLED)), CHUNKED, body=SMUGGLED), {400}),
    ("chunks and a length", post(CHUNKED, length(4), body=SMUGGLED), {400}),
    ("two lengths", post(length(5), length(len(BODY))), {400}),
    ("two lengths in one", post(b"Content-Length: 5, 26\r\n"), {400}),
    ("a length below nothing", post(b"Content-Length: -1\r\n"), {400}),
    ("a length with a sign", post(b"Content-Length: +26\r\n"), {400}),
    ("a length in another base", post(b"Content-Length: 0x1a\r\n"), {400}),
    ("chunks in disguise", post(b"Transfer-Encoding: xchunked\r\n", body=SMUGGLED), {400, 501}),
    ("chunks twice", post(CHUNKED, CHUNKED, body=SMUGGLED), {400, 501}),
    ("chunks of HTTP/1.0", post(CHUNKED, body=SMUGGLED).replace(b"HTTP/1.1", b"HTTP/1.0", 1), {400}),
    ("space before a colon", post(b"Transfer-Encoding : chunked\r\n", body=SMUGGLED), {400}),
    ("a line that goes on", post(b"X-Long: a\r\n b\r\n", length(len(BODY))), {400}),
    ("chunks on a line that goes on", post(b"Transfer-Encoding:\r\n chunked\r\n", body=SMUGGLED), {400}),
    ("half a line's end", post(length(len(BODY))).replace(b"\r\nContent-Type", b"\nContent-Type"), {400}),
    ("the other half", post(b"X: a\rb\r\n", length(len(BODY))), {400}),
    ("a head with halves only", b"GET /healthz HTTP/1.1\nHost: gateway\n\n", {400}),
    ("NUL in a header", get(b"GET /healthz HTTP/1.1", b"X: a\0b\r\n"), {400}),
    ("a header without a name", get(b"GET /healthz HTTP/1.1", b": a\r\n"), {400}),
    ("a header without a colon", get(b"GET /healthz HTTP/1.1", b"nonsense\r\n"), {400}),
    ("two hosts", get(b"GET /healthz HTTP/1.1", b"Host: evil.example\r\n"), {400}),
    ("no host", b"GET /healthz HTTP/1.1\r\n\r\n", {400}),
    ("a host that is none", b"GET /graphiql HTTP/1.1\r\nHost: [\r\n\r\n", {400}),
    ("a host with a path", b"GET /graphiql HTTP/1.1\r\nHost: gateway/@evil.example\r\n\r\n", {400}),
    ("a huge header", get(b"GET /healthz HTTP/1.1", b"X: " + b"a" * 100_000 + b"\r\n"), {400, 431}),
    ("a head of 30 KB at once", get(b"GET /healthz HTTP/1.1", b"X: " + b"a" * 30_000 + b"\r\n"), {431}),
    ("120 headers", get(b"GET /healthz HTTP/1.1", b"X: a\r\n" * 120), {431}),
    ("ten thousand headers", get(b"GET /healthz HTTP/1.1", b"X: a\r\n" * 10_000), {400, 431}),
    ("a huge address", get(b"GET /" + b"a" * 100_000 + b" HTTP/1.1"), {400, 414, 431}),
    ("no version", b"GET /healthz\r\n\r\n", {400}),
    ("a version of tomorrow", get(b"GET /healthz HTTP/3.7"), {400, 505}),
    ("three words more", get(b"GET /healthz HTTP/1.1 and more"), {400}),
    ("the address of another host", get(b"GET http://evil.example/healthz HTTP/1.1"), {400, 404, 421}),
    (
        "a tunnel",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\nConnection: close\r\n\r\n",
        {400, 404, 405, 421},
    ),
    ("an echo", get(b"TRACE /graphql HTTP/1.1"), {405}),
    ("bad percents", get(b"GET /%zz%00%ff%c0%af..%2f HTTP/1.1"), {400, 404}),
    ("a way out of the assets", get(b"GET /graphiql/assets/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1"), {404}),
    ("letters beyond ASCII", get("GET /grüße HTTP/1.1".encode()), {400}),
    ("a chunk of no size", post(CHUNKED, body=b"zz\r\nabc\r\n0\r\n\r\n"), {400}),
    ("a chunk of a size below nothing", post(CHUNKED, body=b"-5\r\nabc\r\n0\r\n\r\n"), {400}),
    ("a chunk of a huge size", post(CHUNKED, body=b"f" * 40 + b"\r\nabc\r\n0\r\n\r\n"), {400, 413}),
    ("a chunk that is longer than it says", post(CHUNKED, body=b"3\r\nabcdef\r\n0\r\n\r\n"), {400}),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n", {400}),
    ("zeros", b"\0" * 5000, {400}),
    (
        "an early end of a socket's handshake",
        get(b"GET /graphql HTTP/1.1", b"Upgrade: websocket\r\nConnection: Upgrade\r\n"),
        {400},
    ),
]

CUT_OFF: list[tuple[str, bytes]] = [
    ("a preface and garbage", PREFACE + b"\xff" * 100),
    ("a preface and no settings", PREFACE + b"\0\0\4\x08\0\0\0\0\0\0\0\0\0"),
    ("a preface alone", PREFACE),
    ("a preface and a frame without end", PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 100),
    ("headers that do not unpack", PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\4\1\5\0\0\0\1\xff\xff\xff\xff"),
    ("half a preface", b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n" + b"x" * 100),
]


@pytest.mark.parametrize(("sent", "statuses"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_what_is_no_decent_request_is_refused(gateway: Gateway, sent: bytes, statuses: set[int]) -> None:
    answer = await answers(gateway, sent)
    assert len(answer) == 1, "what came behind it is not taken for a request"
    assert set(answer) <= statuses
    await serves(gateway)


@pytest.mark.parametrize("sent", [case[1] for case in CUT_OFF], ids=[case[0] for case in CUT_OFF])
async def test_what_is_no_decent_http_2_is_cut_off(gateway: Gateway, sent: bytes) -> None:
    assert await answers(gateway, sent) == []
    await serves(gateway)


@pytest.mark.parametrize("settings", [b"", b"AAMAAABkAAQAAP__", b"!!!", b"x" * 5000])
async def test_nobody_is_taken_to_http_2_by_an_upgrade(gateway: Gateway, settings: bytes) -> None:
    upgraded = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE % settings + b"\r\n"
    assert await answers(gateway, upgraded + get(b"GET /healthz HTTP/1.1")) == [200, 200]
    await serves(gateway)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n",
        b"G",
        b"GET /healthz HTTP/1.1\r\nHost: gat",
        post(length(1000), body=BODY),
        post(CHUNKED, body=b"5\r\nab"),
        post(b"Expect: 100-continue\r\n", length(1000), body=b""),
        PREFACE,
    ],
)
async def test_who_leaves_in_the_middle_leaves_nothing_behind(gateway: Gateway, sent: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(sent)
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.transport.abort()
    await serves(gateway)


@pytest.mark.parametrize("path", [b"/healthz", b"/nope"])
async def test_who_sends_more_than_is_read_is_answered_and_let_go(gateway: Gateway, path: bytes) -> None:
    before = len(asyncio.all_tasks())
    sent = post(CHUNKED, body=b"1\r\na\r\n" * 1000).replace(b"/graphql", path)
    assert len(await answers(gateway, sent)) == 1
    await until(lambda: len(asyncio.all_tasks()) <= before, 5)


async def answers(gateway: Gateway, sent: bytes) -> list[int]:
    """The statuses of all that comes back until the gateway hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    received = b""
    with suppress(ConnectionError):
        writer.write(sent)
        async with asyncio.timeout(15):
            while piece := await reader.read(65536):
                received += piece
    writer.transport.abort()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-5]\d\d)", received)]


async def serves(gateway: Gateway) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{gateway.http}/graphql", content=BODY, headers={"content-type": "application/json"}
        )
        assert answer.json() == {"data": {"__typename": "Query"}}
